"""Library scenarios, small: replayed periods of the step loop give the bits of steps that are taken one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.capture.conditions import obstacle_of
from antiphon.engine.capture.loop import CapturedLoop
from antiphon.engine.simulation import Simulation
from tests.contracts.test_library import CASES, SMALL, assert_same, idx_folder, resolved
from tests.engine.capture.dispatch_recorder import DispatchRecorder

__all__ = ["idx_folder"]

OBSTACLES = {
    "cartpole-team": "the lengths of its episodes differ",
    "copy": "the lengths of its episodes differ",
    "feudal-keydoor": "the lengths of its episodes differ",
    "referential-reward": "agent 'listener' acts in the environment",
    "repeat-copy": "the lengths of its episodes differ",
    "sparse-updates": "agent 'n0' learns from some of its windows only (p_update)",
    "speaker-listener": "agent 'listener' acts in the environment",
}
"""Scenarios whose steps are taken one by one."""
STEPS = {"char-lm": 60, "clockwork": 200, "three-timescales": 80}
"""Of long periods, or whose state repeats late."""
CORE = ("corporation", "hyperplane", "lossy", "mnist-cnn", "two-timescales", "unlocked")
"""Scenarios of different mechanisms; the others are tried at night."""
QUICK = [
    pytest.param(name, marks=() if name in CORE else (pytest.mark.nightly,))
    for name in SMALL
    if name not in OBSTACLES
]


@pytest.fixture(autouse=True)
def _data(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_DATA", str(idx_folder))


def held(name: str, values: dict[str, Any], steps: int) -> CapturedLoop:
    """Hold a captured run to one without; return what has replayed its periods."""
    scenario, loop = resolved(name, values), CapturedLoop(DispatchRecorder)
    plain = Simulation(scenario, seed=3)
    captured = Simulation(scenario, seed=3, capture=loop)
    if any(channel.outliers is not None for channel in plain.backend.system.channels.values()):
        plain.backend.check_later()  # on a CPU clipping has other last bits elsewhere
    for simulation in (plain, captured):
        simulation.run(steps)
    assert_same(captured, plain)
    for simulation in (plain, captured):  # by hand, from what has been replayed
        simulation.step()
    assert_same(captured, plain)
    return loop


@pytest.mark.parametrize("name", QUICK)
def test_replayed_periods_of_a_library_scenario(name: str) -> None:
    loop = held(name, {}, STEPS.get(name, 40))
    assert loop.obstacle is None
    assert loop.replayed >= 2


@pytest.mark.parametrize("name", OBSTACLES)
def test_scenarios_that_are_not_recorded(name: str) -> None:
    simulation = Simulation(resolved(name, {}), capture=CapturedLoop(DispatchRecorder))
    assert obstacle_of(simulation.backend.system) == OBSTACLES[name]
    simulation.run(3)
    assert simulation.now == 3


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "values"), CASES)
def test_two_hundred_steps_of_every_variant(name: str, values: dict[str, Any]) -> None:
    held(name, values, steps=200)
