"""Probes of systems that learn from rewards: they run, change no bit, and the truth is that of the window's losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.engine.probes.truth import look_ahead
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.engine.acting import ONE, Stage
from tests.engine.scenes import scenario_of

TICKS = 4
MLP = {"kind": "mlp", "hidden": [4], "activation": "tanh", "norm": "none"}


def pair(kind: str, coupling: str = "decoupled", **motor: Any) -> Scenario:
    clock = {"unroll": TICKS}
    own = {"observes": ["place"], "network": MLP, "clock": clock, "acts": True, "objective": {"kind": kind}}
    agents = {"s": {"observes": ["view"], "network": MLP, "clock": clock}, "m": {**own, **motor}}
    channel: dict[str, Any] = {"from": "s", "to": "m", "size": 2, "norm": "none", "coupling": coupling}
    if coupling == "decoupled":
        channel["gradient"] = {"kind": "linear", "context": ["view", "reward"]}
    adam = {"kind": "adam", "lr": 0.01}
    return scenario_of(agents, [channel], Stage(ONE), batch=8, optimiser=adam, predictor=adam)


@pytest.mark.parametrize("kind", ["a2c", "ppo", "reinforce"])
def test_the_truth_at_a_windows_start_is_what_its_receiver_will_return(kind: str) -> None:
    with Simulation(pair(kind), dtype=torch.float64) as simulation:
        simulation.run(3 * TICKS)
        probe = simulation.probe(TICKS - 1)["s->m"]
        before = {n: p.clone() for n, p in simulation._system.agents["m"].learner.parameters.items()}
        simulation.run(TICKS)
        first = simulation.learned.predictor_updates["s->m"].examples[0]
        assert first.delta is not None
        assert torch.allclose(probe.true, first.delta, atol=1e-12)
        assert probe.true.abs().sum() > 0
        assert any(
            not torch.equal(p, before[n])
            for n, p in simulation._system.agents["m"].learner.parameters.items()
        )


def test_what_a_message_reaches_lies_as_far_ahead_as_its_receivers_window_ends() -> None:
    with Simulation(pair("ppo"), dtype=torch.float64) as simulation:
        for step in range(2 * TICKS):
            assert look_ahead(simulation._system, ["s->m"], step) == TICKS - 1 - step % TICKS


def test_values_and_figures_are_measured_and_change_no_bit() -> None:
    scenario = pair("ppo")
    with Simulation(scenario) as simulation, Simulation(scenario) as plain:
        simulation.run(2 * TICKS + 1)
        plain.run(2 * TICKS + 1)
        simulation.value(horizon=2 * TICKS, repeats=2)
        next(iter(simulation.channels.values())).figures()
        for one in (simulation, plain):
            one.run(TICKS)
        for name, p in simulation._system.agents["m"].learner.parameters.items():
            assert torch.equal(p, plain._system.agents["m"].learner.parameters[name])
