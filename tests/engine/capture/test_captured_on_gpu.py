"""CUDA graphs: library scenarios replayed on a GPU give the bits of steps that are taken one by one there."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.engine.capture.loop import CapturedLoop
from antiphon.engine.simulation import Simulation
from tests.contracts.test_library import assert_same, idx_folder, resolved
from tests.engine.capture.test_captured_library import QUICK

__all__ = ["idx_folder"]

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", QUICK)
def test_captured_steps_are_the_eager_ones(
    name: str, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTIPHON_DATA", str(idx_folder))
    loop = CapturedLoop()
    eager = Simulation(resolved(name, {}), seed=3, device="cuda", capture=False)
    captured = Simulation(resolved(name, {}), seed=3, device="cuda", capture=loop)
    for simulation in (eager, captured):
        simulation.run(200)
    assert loop.obstacle is None
    assert loop.replayed >= 2
    assert_same(captured, eager)
