"""The reference engine against the independent event simulator: who learned what when, in random scenes."""

from __future__ import annotations

import itertools
import random
from functools import partial

import pytest

from antiphon import Simulation
from tests.contracts import scripted
from tests.contracts.event_scene import Clock, Scene
from tests.contracts.test_random_time import HORIZON, drawn_ends, drawn_scene
from tests.reference.backend import reference


@pytest.fixture(autouse=True)
def on_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "Simulation", partial(Simulation, backend=reference))


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.nightly) for n in (1, 2, 3))])
def test_random_scenes(seed: int) -> None:
    for number in range(8):
        scripted.agree(*drawn_scene(random.Random(f"reference/{seed}/{number}")))


@pytest.mark.parametrize("coupling", ["locked", "detached", "decoupled"])
def test_a_window_that_is_the_episode(coupling: str) -> None:
    ends = {(step, 0): True for step in range(HORIZON) if step % 5 in (2, 4)}
    clocks, judged = {"a": Clock(1, 0, None)}, frozenset("a")
    scripted.agree(
        Scene(clocks, [], HORIZON, {"a": coupling}, ends=ends, lengths=(3, 2), judged=judged), {"a": "gru"}
    )


def test_states_of_every_unroll_and_end() -> None:
    rng = random.Random("states")
    for unroll, coupling in itertools.product((1, 3), ("detached", "decoupled")):
        ends, judged = drawn_ends(rng, 3, 0.15), frozenset("a")
        scene = Scene({"a": Clock(2, 1, unroll)}, [], HORIZON, {"a": coupling}, 3, ends=ends, judged=judged)
        scripted.agree(scene, {"a": "lstm"})
