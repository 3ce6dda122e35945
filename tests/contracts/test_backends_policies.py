"""The cohort backend computes what the reference backend computes, where agents act and learn from rewards."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.backend_documents import STEPS, Document
from tests.contracts.backend_policies import acting
from tests.contracts.backend_twins import hold


@settings(max_examples=40)
@given(acting(), st.integers(1, STEPS))
def test_random_scenarios_with_actors(scene: Document, look: int) -> None:
    hold(scene, look)
