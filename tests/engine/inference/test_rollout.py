"""Rollouts: the run's own way forward in an environment of their own, judged and not learned from (semantics 24)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon import Simulation
from antiphon.agents.network import OBJECTIVE
from antiphon.engine.heart.signals import Action, EpisodeEnds
from antiphon.engine.heart.step import take_step
from antiphon.engine.inference.evaluation import rollout_seed
from antiphon.engine.inference.rollout import EnvironmentRollout
from antiphon.envs import TorchVectorEnv, registry
from antiphon.scenarios import Scenario
from tests.engine.scenes import scenario_of
from tests.kit.documented import Links
from tests.kit.some import some

Document = dict[str, Any]
LSTM = {"kind": "lstm", "size": 7}
PORT = "to_b"


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
    gradient = {"kind": "linear", "context": ["count_so_far"]}
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


# --- against a loop written by hand ------------------------------------------------------------------------


class ByHand:
    """The hierarchy as anybody would write it: two torch LSTM cells and a message at every third step."""

    def __init__(self, simulation: Simulation, batch: int) -> None:
        self.a, self.b = simulation.agents["a"], simulation.agents["b"]
        self.states = {n: (torch.zeros(batch, 7).double(), torch.zeros(batch, 7).double()) for n in "ab"}

    def linear(self, name: str, key: str, x: Tensor) -> Tensor:
        own = getattr(self, name).parameters
        return F.linear(x, own[f"{key}.weight"], own[f"{key}.bias"])

    def cell(self, name: str, x: Tensor) -> Tensor:
        own = getattr(self, name).parameters
        keys = ("input.weight", "recurrent.weight", "input.bias", "recurrent.bias")
        self.states[name] = torch.lstm_cell(x, self.states[name], *(own[f"cell.{key}"] for key in keys))
        return self.states[name][0]

    def step(self, step: int, image: Tensor) -> dict[str, Tensor]:
        norm, held = self.a.parameters, self.a.buffers
        x = self.linear("a", "0", image.flatten(1))
        x = F.batch_norm(x, held["0.norm.mean"], held["0.norm.var"], norm["0.norm.gain"], norm["0.norm.bias"])
        h = self.cell("a", x.relu())
        said = {"a": self.linear("a", "objective", h)}
        if step % 3 == 2:
            message = F.layer_norm(
                self.linear("a", PORT, h),
                (4,),
                norm[f"{PORT}.norm.gain"],
                norm[f"{PORT}.norm.bias"],
            )
            said["b"] = self.linear("b", "objective", self.cell("b", message))
        return said


@pytest.mark.long
def test_it_is_the_loop_that_one_would_write_by_hand() -> None:
    simulation = simulate(hierarchy(), steps=30)
    assert any(value.abs().max() > 0 for value in simulation.agents["a"].buffers.values())
    env = second(simulation, 64)
    steps, seed = some(env.evaluation_steps), rollout_seed(0, "test", 0)
    rollout, hand = EnvironmentRollout(simulation.running.system, env, Links(), seed), ByHand(simulation, 64)
    sums = {name: [0.0, 0.0, 0] for name in "ab"}
    for step in range(steps):
        signals = rollout.world.step_signals.signals
        with torch.no_grad():
            expected = hand.step(step, signals["image"])
        found = outputs(rollout.step())
        assert found.keys() == expected.keys()
        for name, output in found.items():
            torch.testing.assert_close(output, expected[name], rtol=0, atol=1e-10)
            if (step + 1) % (3 if name == "a" else 9) == 0:
                label = signals[{"a": "odd", "b": "threes"}[name]]
                sums[name][0] += F.cross_entropy(output, label, reduction="sum").item()
                sums[name][1] += (output.argmax(1) == label).sum().item()
                sums[name][2] += 64
    found = simulation.evaluate("test")
    assert found.examples == sums["b"][2]
    for name, (loss, right, count) in sums.items():
        assert found.agents[name] == pytest.approx({"loss": loss / count, "accuracy": right / count})


# --- against the run itself --------------------------------------------------------------------------------

INPUT = {"kind": "linear", "context": ["image", "held", "age", "from.phase", "to.phase"]}
FROZEN: dict[str, tuple[Document, Document]] = {
    "lossy": ({}, {"link": {"drop": 0.4, "noise": 0.3, "bits": 3, "delay": 1}, "input": INPUT}),
    "mean": ({}, {"read": "mean", "link": {"delay": 2}}),
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
        take_step(simulation.running.backend, step, simulation.world.step_signals, compared)
        for key, value in kept.items():  # it would learn from what it hears
            some(model).parameters[key].data.copy_(value)
