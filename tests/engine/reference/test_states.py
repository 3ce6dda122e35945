"""A state of the reference engine goes on in an engine of single agents, and the other way round: in mid-window, in random scenarios."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.state import checkpoint
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts import test_random_graphs as graphs
from tests.contracts.backend_documents import Document
from tests.contracts.backend_scenes import scenes
from tests.contracts.backend_twins import agree, made, side_by_side, unsteady
from tests.contracts.test_backends_state import CASES
from tests.engine.numbers import assert_same_state

MORE = 6


ENGINES: tuple[dict[str, Any], ...] = ({"backend": "reference"}, {"backend": "cohort", "stacked": False})


def go_on(document: Document | Scenario, early: int, *, steps: int = MORE) -> None:
    """Let each of both take over the other's state after `early` steps, and hold them to each other for some more."""
    for first, second in (ENGINES, ENGINES[::-1]):
        one, other = made(document, **first), made(document, **second)
        one.run(early)
        other._load_state_dict(checkpoint.copy_tree(one._state_dict()))
        agree(one, other)
        try:
            side_by_side(one, other, steps)
        except AssertionError:
            if not unsteady(document):
                raise


@settings(max_examples=10)
@given(scenes(), st.integers(1, 9))
def test_random_scenarios_of_agents_that_are_alike(scene: Document, early: int) -> None:
    go_on(scene, early)


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int) -> None:
    document = graphs.draw(random.Random(seed))
    try:
        scenario = Scenario.model_validate(document)
        made(scenario, "reference").close()
    except ScenarioError:
        pytest.skip("the document is refused")
    go_on(scenario, 1 + seed % 7)


@pytest.mark.nightly
@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(1, 11))
def test_many_random_graphs(seed: int, early: int) -> None:
    try:
        scenario = Scenario.model_validate(graphs.draw(random.Random(seed)))
        made(scenario, "reference").close()
    except ScenarioError:
        return
    go_on(scenario, early)


@pytest.mark.parametrize("name", CASES)
def test_a_state_comes_back_as_it_was_saved(name: str) -> None:
    """What a checkpoint has is all there is: loaded and saved again it is the same, bit by bit."""
    one, other = (made(CASES[name], "reference") for _ in range(2))
    one.run(5)
    other._load_state_dict(checkpoint.copy_tree(one._state_dict()))
    assert_same_state(one, other)
    one.run(3)
    other.run(3)
    assert_same_state(one, other)
