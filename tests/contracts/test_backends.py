"""The cohort backend computes what the reference backend computes: random scenarios, and one theme after another.

In float64, over fourteen steps, to 1e-9: every parameter, running statistic, optimiser and update count of agents and of
predictors, the losses of every step, and what every ledger holds. Where numbers are rounded on the way, one step at a time.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.state import checkpoint
from tests.contracts.backend_documents import STEPS, Document
from tests.contracts.backend_scenes import scenes
from tests.contracts.backend_sites import SITES
from tests.contracts.backend_themes import ALONE, SICK, THEMES
from tests.contracts.backend_twins import differences, facts, hold, made, stacked, step_by_step
from tests.contracts.backend_unlike import UNLIKE


@pytest.mark.parametrize("name", THEMES)
def test_themes(name: str) -> None:
    assert name in ALONE or stacked(made(THEMES[name], "cohort"))
    hold(THEMES[name], look=7)


@pytest.mark.parametrize("name", SITES)
def test_predictors_of_tokens_and_pixels(name: str) -> None:
    assert stacked(made(SITES[name], "cohort"))
    hold(SITES[name], look=7)


@pytest.mark.parametrize("name", UNLIKE)
def test_agents_that_differ_in_one_thing(name: str) -> None:
    hold(UNLIKE[name])


@settings(max_examples=30)
@given(scenes(), st.integers(1, STEPS))
def test_random_scenarios(scene: Document, look: int) -> None:
    hold(scene, look)


@pytest.mark.nightly
@settings(max_examples=500)
@given(scenes(), st.integers(1, STEPS))
def test_many_random_scenarios(scene: Document, look: int) -> None:
    hold(scene, look)


@settings(max_examples=6)
@given(scenes(bits=True))
def test_rounding_links_step_by_step(scene: Document) -> None:
    """What lies between two levels may be rounded either way."""
    step_by_step(scene)


def test_most_random_scenarios_are_stacked() -> None:
    tried, some = 0, 0

    @settings(max_examples=60, database=None)
    @given(scenes())
    def look(scene: Document) -> None:
        nonlocal tried, some
        tried += 1
        some += stacked(made(scene, "cohort"))

    look()
    assert some >= 0.6 * tried, f"{some} of {tried}"


# --- quarantine ------------------------------------------------------------------------------------------


def poisoned(scenario: Document, backend: str, place: str, value: float, steps: int = 12) -> dict[str, Any]:
    """Everything known after some steps, a predictor or an agent having been given a number that is none."""
    with made(scenario, backend) as simulation:
        simulation.run(5)
        system = simulation._system
        channel = system.channels.get(place)
        owner = system.agents[place].learner if channel is None else channel.predictor
        assert owner is not None
        for p in owner.parameters.values():
            p.data.fill_(value)
        simulation.run(steps)
        found: dict[str, Any] = checkpoint.copy_tree(facts(simulation))
    return found


@pytest.mark.parametrize("value", [float("nan"), 1e30])
@pytest.mark.parametrize("scenario", SICK)
def test_quarantine(scenario: str, value: float) -> None:
    names = SICK[scenario]["agents"]
    first = next(iter(names))
    channel = next(f"{c['from']}->{c['to']}" for c in SICK[scenario]["channels"] if c["from"] == first)
    for place in (first, channel):
        ours, theirs = (
            poisoned(SICK[scenario], backend, place, value) for backend in ("reference", "cohort")
        )
        found = list(differences(ours, theirs))
        assert not found, "\n".join(found[:12])


def test_the_others_bits_do_not_depend_on_what_was_no_number() -> None:
    found = [
        poisoned(SICK["ring"], "cohort", "n0->n1", value)
        for value in (float("nan"), float("inf"), 1e25, -1e30)
    ]
    for other in found[1:]:
        for place, value in found[0].items():
            if isinstance(value, torch.Tensor) and not place.startswith(("agent n0", "channel n0->n1")):
                assert torch.equal(value, other[place]), place
