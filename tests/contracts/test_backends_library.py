"""Every library scenario, small: the cohort backend computes what the reference backend computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contracts.backend_twins import hold
from tests.contracts.test_library import CASES, SMALL, idx_folder, resolved

__all__ = ["idx_folder"]


@pytest.fixture(autouse=True)
def _data(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_DATA", str(idx_folder))


@pytest.mark.parametrize("name", SMALL)
def test_library_scenarios(name: str) -> None:
    hold(resolved(name, {}), steps=9)


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "values"), CASES)
def test_all_variants_of_library_scenarios(name: str, values: dict[str, Any]) -> None:
    hold(resolved(name, values))
