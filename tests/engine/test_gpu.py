"""On a GPU no step of the library waits for it. Run by `make gpu`; `on_pretended_gpu.py` finds the same on a pretended one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from antiphon import Simulation
from antiphon.scenarios import library_names
from benchmarks.frozen_numbers import scenario_of
from tests.contracts.library import write_pictures
from tests.contracts.twins import differences, facts
from tests.engine.on_pretended_gpu import EAGER, PERIOD, WARM, small

pytestmark = [
    pytest.mark.gpu,
    # torch says so once, as the mode is set: the mode would stay, and every later test fail
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]


@pytest.mark.parametrize("name", sorted(set(library_names()) - EAGER.keys()))
def test_no_step_waits_for_the_gpu(name: str) -> None:
    period = PERIOD.get(name, 2)
    simulation = Simulation(small(name), device="cuda")
    for _ in range(max(period, WARM)):
        simulation.step()
    torch.cuda.synchronize()
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(period):
            simulation.step()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    assert simulation.now == max(period, WARM) + period


@pytest.mark.parametrize("name", ["corporation", "lossy", "mnist-cnn", "speaker-listener"])
def test_two_runs_have_the_same_bits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At their own sizes: among few numbers none comes before another."""
    write_pictures(tmp_path / "mnist")
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    runs = [Simulation(scenario_of(name, "decoupled", {}), seed=3, device="cuda") for _ in range(2)]
    for simulation in runs:
        simulation.run(24)
    assert not list(differences(*map(facts, runs), tolerance=0.0))
