"""On a GPU no step of the library waits for it. Run by `make gpu`; `on_pretended_gpu.py` finds the same on a pretended one."""

from __future__ import annotations

import pytest
import torch

from antiphon import Simulation
from antiphon.scenarios import library_names
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
