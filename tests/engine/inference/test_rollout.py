"""Rollouts: the run's own way forward in an environment of their own, judged and not learned from (semantics 24)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.agents.network import OBJECTIVE
from antiphon.engine.heart.signals import Action, EpisodeEnds
from antiphon.engine.inference.rollout import EnvironmentRollout, Links
from antiphon.envs import TorchVectorEnv, registry
from antiphon.scenarios import Scenario
from tests.engine.scenes import scenario_of
from tests.kit.some import some

Document = dict[str, Any]
LSTM = {"kind": "lstm", "size": 7}


def hierarchy(a: Document | None = None, b: Document | None = None, **channel: Any) -> Scenario:
    """A sees every digit, B hears A at every third step; the windows of the counts are 3 and 9 steps."""
    agents = {
        "a": {
            "observes": ["image"],
            "network": {**LSTM, "hidden": [6], "norm": "batch"},
            "clock": {"unroll": 3},
            "objective": {"kind": "classification", "target": "odd"},
            **(a or {}),
        },
        "b": {
            "network": LSTM,
            "clock": {"period": 3, "phase": -1, "unroll": 3},
            "objective": {"kind": "classification", "target": "threes"},
            **(b or {}),
        },
    }
    gradient = {"kind": "linear", "context": ["threes_so_far"]}
    channels = [
        {"from": "a", "to": "b", "size": 4, "norm": "layer", "gradient": gradient, **channel},
        *[{"from": name, "to": name, "key": "state", "coupling": "decoupled"} for name in "ab"],
    ]
    env, adam = {"id": "antiphon/CountDigits-v0", "levels": 2, "window": 3}, {"kind": "adam", "lr": 0.01}
    return scenario_of(agents, channels, env, readout="b", batch=4, steps=100, optimiser=adam)


def simulate(scenario: Scenario, seed: int = 0, steps: int = 0) -> Simulation:
    simulation = Simulation(scenario, seed=seed, dtype=torch.float64)
    simulation.run(steps)
    return simulation


def second(simulation: Simulation, batch: int = 5, split: str = "test") -> TorchVectorEnv:
    return registry.make(simulation.scenario.env, batch=batch, dtype=torch.float64, split=split)


def outputs(parts: list[Any]) -> dict[str, Tensor]:
    return {part.agent_name: part.ports[OBJECTIVE] for part in parts}


# --- against the run itself --------------------------------------------------------------------------------

INPUT = {"kind": "linear", "context": ["image", "held", "age", "from.phase", "to.phase"]}
FROZEN: dict[str, tuple[Document, Document]] = {
    "lossy": ({}, {"link": {"drop": 0.4, "noise": 0.3, "bits": 3, "delay": 1}, "input": INPUT}),
    "concat": ({"observes": ["age"]}, {"read": "concat", "link": {"delay": 4}}),
    "aged": ({"observes": ["age"]}, {"link": {"drop": 0.5, "delay": 1}}),
    "aligned": ({"align": "a->b", "observes": ["image"]}, {"link": {"delay": 3}}),
}


def lived(simulation: Simulation, step: int) -> dict[str, Tensor]:
    """What a simulation's agents made at a step that is not learned from yet."""
    ticks = [tick for group in simulation.running.system.groups for tick in group.window.ticks()]
    return outputs([tick for tick in ticks if tick.step == step and OBJECTIVE in tick.ports])


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", FROZEN)
def test_as_run_is_what_the_run_itself_does(name: str) -> None:
    b, channel = FROZEN[name]
    net: Document = {"network": LSTM, "learn": False}
    simulation = simulate(hierarchy(net, {**net, **b}, **channel), seed=3)
    draw = torch.Generator().manual_seed(1)
    model = simulation.channels["a->b"].synthetic_input
    for parameter in (model.parameters if model else {}).values():
        parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
    kept = {key: value.clone() for key, value in (model.parameters if model else {}).items()}
    rollout = EnvironmentRollout(
        simulation.running.system, second(simulation, 4, "train"), Links("as_run"), 3
    )

    def compared(action: Action | None) -> EpisodeEnds:
        expected, found = lived(simulation, simulation.world.step_signals.step), outputs(rollout.step())
        assert found.keys() == expected.keys()
        for agent, output in found.items():
            torch.testing.assert_close(output, expected[agent], rtol=0, atol=1e-12)
        return simulation.world.advance(action)

    for step in range(24):
        backend = simulation.running.backend
        backend.learn(step, compared(backend.tick(step, simulation.world.step_signals)))
        for key, value in kept.items():  # it would learn from what it hears
            some(model).parameters[key].data.copy_(value)
