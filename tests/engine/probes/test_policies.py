"""Probes of systems that learn from rewards: they run, change no bit, and the truth is that of the window's losses."""

from __future__ import annotations

import pytest
import torch

from antiphon.engine.probes.truth import look_ahead
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.engine.acting import ONE, Stage
from tests.engine.scenes import scenario_of

TICKS = 4
MLP = {"kind": "mlp", "hidden": [4], "activation": "tanh", "norm": "none"}


def pair(kind: str) -> Scenario:
    clock = {"unroll": TICKS}
    own = {"observes": ["place"], "network": MLP, "clock": clock, "acts": True, "objective": {"kind": kind}}
    agents = {"s": {"observes": ["view"], "network": MLP, "clock": clock}, "m": own}
    gradient = {"kind": "linear", "context": ["view", "reward"]}
    channel = {"from": "s", "to": "m", "size": 2, "norm": "none", "gradient": gradient}
    adam = {"kind": "adam", "lr": 0.01}
    return scenario_of(agents, [channel], Stage(ONE), batch=8, optimiser=adam, predictor=adam)


@pytest.mark.parametrize("kind", ["a2c", "ppo"])
def test_the_truth_at_a_windows_start_is_what_its_receiver_will_return(kind: str) -> None:
    with Simulation(pair(kind), dtype=torch.float64) as simulation:
        for step in range(3 * TICKS):
            assert look_ahead(simulation._system, ["s->m"], step) == TICKS - 1 - step % TICKS
        simulation.run(3 * TICKS)
        probe = simulation.probe(TICKS - 1)["s->m"]
        simulation.run(TICKS)
        first = simulation.learned.predictor_updates["s->m"].examples[0]
        assert first.delta is not None
        assert torch.allclose(probe.true, first.delta, atol=1e-12)
        assert probe.true.abs().sum() > 0
        values = simulation.value(horizon=2 * TICKS, repeats=2)
        assert len(values.rows) == 2
