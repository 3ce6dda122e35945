"""Users' own modules as networks: same numbers, one line when they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import antiphon
from antiphon import Scenario, Simulation
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import OBJECTIVE, Head
from tests.agents import plain

HEADS = (Head(OBJECTIVE, (3,)), Head("to_b", (2, 1, 2), "batch"))


def net(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, outputs))


@pytest.mark.parametrize("training", [False, True])
def test_it_equals_the_module_it_was_made_of(training: bool) -> None:
    network = ModuleNetwork(net, (4, 2), HEADS, seed=0)
    parameters = {k: v.double() for k, v in network.parameters(torch.Generator()).items()}
    buffers = {k: v.double() if v.is_floating_point() else v for k, v in network.buffers().items()}
    before = {k: v.clone() for k, v in buffers.items()}
    x = torch.randn(5, 8, dtype=torch.float64)
    ports, after = network(parameters, buffers, x, training=training)
    assert {name: tuple(port.shape) for name, port in ports.items()} == {
        OBJECTIVE: (5, 3),
        "to_b": (5, 2, 1, 2),
    }
    assert [network.port_shape(name) for name in ports] == [(3,), (2, 1, 2)]
    assert all(torch.equal(buffers[k], v) for k, v in before.items()), "buffers are values"
    assert set(after) == set(buffers)
    theirs = plain.Plain(network, parameters, before).train(training)(x)
    torch.testing.assert_close(ports, theirs)


def test_dropout_follows_the_seed_of_the_call() -> None:
    network = ModuleNetwork(nn.Dropout(0.5), (20,), (Head(OBJECTIVE, (20,)),), seed=0)
    x = torch.ones(4, 20)
    state = torch.get_rng_state()
    first, again, other = (network({}, {}, x, training=True, seed=s)[0][OBJECTIVE] for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(network({}, {}, x, training=False)[0][OBJECTIVE], x)


def test_parameters_that_require_no_gradient_stay_fixed() -> None:
    """As in torch: an optimiser never touches them; in the step they are buffers."""

    def half_frozen(inputs: int, outputs: int) -> nn.Module:
        found = nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))
        found[0].requires_grad_(False)
        return found

    given = half_frozen(64, 10)
    for source in (half_frozen, given):
        goal = {"kind": "classification", "target": "label"}
        agents: dict[str, Any] = {"mind": {"observes": ["image"], "network": source, "objective": goal}}
        env: Any = {"id": "antiphon/Digits-v0"}
        with antiphon.Simulation(antiphon.Scenario(scenario="half", env=env, agents=agents)) as simulation:
            before = simulation.agents["mind"].module.state_dict()
            simulation.run(3)
            after = simulation.agents["mind"].module.state_dict()
        changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert {name.rpartition("module.")[2] for name in changed} == {"2.weight", "2.bias"}
    assert all(p.requires_grad == (name[0] == "2") for name, p in given.named_parameters())


class Plain(nn.Module):
    """A network of one layer and running statistics."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.out, self.norm = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Any:
        return self.norm(self.out(x))


class Wide(Plain):
    """The same with a hidden layer."""

    def __init__(self, inputs: int, outputs: int, width: int = 2) -> None:
        super().__init__(inputs, outputs)
        self.out = nn.Sequential(nn.Linear(inputs, width), nn.Linear(width, outputs))


def test_a_class_is_a_kind_with_options() -> None:
    goal = {"kind": "classification", "target": "label"}
    agents = {
        name: {"observes": ["image"], "network": {"kind": Wide, **options}, "objective": goal}
        for name, options in {"a": {"width": 5}, "b": {}}.items()
    }
    scenario = Scenario(scenario="wide", env={"id": "antiphon/Digits-v0"}, agents=agents)
    with Simulation(scenario) as simulation:
        widths = [len(agent.parameters["module.out.0.weight"]) for agent in simulation.agents.values()]
        assert widths == [5, 2]


class WithLoss(Plain):
    """The same with a loss of its own."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x.sum(1)


class WithState(Plain):
    """The same with a state."""

    state_size = 2

    def forward(self, x: Tensor, state: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x), state + 1


@pytest.mark.parametrize("net", [Plain, WithLoss, WithState])
def test_one_prefix_is_stripped_to_load_the_parameters_of_any_module(
    net: type[Plain], tmp_path: Path
) -> None:
    x = torch.randn(20, 3)
    goals: list[dict[str, Any]] = [{"kind": "regression", "target": "y"}]
    goals += [{"kind": "own_loss", "scale": 0.1}] if net is WithLoss else []
    env = antiphon.envs.from_tensors(x=x, y=x, training_only=["y"])
    agents = {"a": {"observes": ["x"], "network": net, "objective": goals}}
    with Simulation(Scenario(scenario="m", env=env, agents=agents)) as run:
        run.run(steps=2, progress=False)
        weights = load_file(run.export(tmp_path / "m.safetensors"))
        composed = run.compose().state_dict()
        state = run.agents["a"].parameters
    found = Plain(3, 3)
    found.load_state_dict({name.removeprefix("a.module."): value for name, value in weights.items()})
    for name, value in found.named_parameters():
        assert torch.equal(value, state[f"module.{name}"])
        assert torch.equal(value, composed[f"agent_a.module.{name}"])
