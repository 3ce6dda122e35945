"""The value of agents whose objective learns one: a head of their network, after the objective's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from antiphon.agents.network import OBJECTIVE, VALUE
from antiphon.engine.build.shapes import resolve
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.contracts.builders import LABEL
from tests.contracts.twins import made
from tests.engine.games import Game
from tests.engine.numbers import newest_ports
from tests.engine.scenes import scenario_of


def _scenario(network: Any = None, members: int = 1, kind: str = "a2c") -> Scenario:
    """Agents that act, and one that reads what they send."""
    agent: dict[str, Any] = {"observes": ["image"], "objective": {"kind": kind}, "clock": {"unroll": 2}}
    agent["network"] = network or {"kind": "mlp", "hidden": [4]}
    names = tuple(f"a{i}" for i in range(members))
    agents = {name: {**agent, "acts": name} for name in names} | {"b": {"objective": LABEL}}
    channels = [{"from": name, "to": "b", "size": 3, "coupling": "detached"} for name in names]
    return scenario_of(agents, channels, Game(parts=names))


def _net(inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs)


def test_its_head_is_after_the_objectives_and_before_the_ports() -> None:
    scenario = _scenario()
    with Simulation(scenario) as simulation:
        heads = resolve(scenario, simulation._system.description).heads["a0"]
    assert [(head.name, head.size, head.norm) for head in heads] == [
        (OBJECTIVE, (3,), "none"),
        (VALUE, (1,), "none"),
        ("to_b", (3,), "layer"),
    ]


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize(
    "network",
    [{"kind": "mlp", "hidden": [4]}, {"kind": "gru", "size": 4}, {"kind": "conv", "hidden": [2]}, _net],
)
@pytest.mark.parametrize("members", [1, 3])
def test_the_value_is_a_port_of_every_tick(backend: str, network: Any, members: int) -> None:
    with made(_scenario(network, members), backend) as simulation:
        simulation.step()
        ports = newest_ports(simulation, "a0")
        rows = 8 * (members if backend == "cohort" else 1)
        assert ports[VALUE].shape == (rows, 1)
        assert ports[VALUE].requires_grad
        assert ports[OBJECTIVE].shape == (rows, 3)


@pytest.mark.parametrize(("kind", "learned"), [("a2c", True), ("ppo", True), ("reinforce", False)])
def test_only_some_objectives_learn_a_value(kind: str, learned: bool) -> None:
    with made(_scenario(kind=kind), "cohort") as simulation:
        assert (VALUE in simulation._system.agents["a0"].ports) is learned
        assert ("value.weight" in simulation._system.agents["a0"].learner.parameters) is learned


def test_a_stack_computes_what_its_members_do() -> None:
    values = []
    for settings in ({"stacked": False}, {}):
        with made(_scenario(members=3), "cohort", **settings) as simulation:
            simulation.step()
            values.append(newest_ports(simulation, "a0")[VALUE][:8])
    torch.testing.assert_close(*values)
