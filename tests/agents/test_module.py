"""Users' own modules as networks: same numbers, alone and stacked; one line when they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import antiphon
from antiphon import Scenario, Simulation
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import OBJECTIVE, Head
from tests.agents.made import evaluated, numbers
from tests.kit.some import some
from tests.kit.tensors import drawn, member, stack


def net(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, outputs))


def test_dropout_follows_the_seed_of_the_call() -> None:
    network = ModuleNetwork(nn.Dropout(0.5), (20,), (Head(OBJECTIVE, (20,)),), seed=0)
    x = torch.ones(4, 20)
    state = torch.get_rng_state()
    first, again, other = (network({}, {}, x, training=True, seed=s)[0][OBJECTIVE] for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(network({}, {}, x, training=False)[0][OBJECTIVE], x)


@pytest.mark.parametrize(
    ("module", "apart"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)), True),
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(0), nn.Linear(3, 2)), False),
        (nn.Sequential(nn.Dropout(), nn.Linear(4, 2)), False),
    ],
)
def test_samples_are_computed_apart_where_they_are_the_same(module: nn.Module, apart: bool) -> None:
    network = ModuleNetwork(module, (4,), (Head(OBJECTIVE, (2,)),), seed=0)
    assert (network.row_split_obstacle() is None) == apart


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


# --- stacked ---------------------------------------------------------------------------------------------


INPUTS, BATCH = 4, 6
TWO_HEADS = (Head(OBJECTIVE, (3,)), Head("to_b", (2, 1, 2), "batch"), Head("to_c", (2,), "layer"))
OUTPUTS = 9


class Written(nn.Module):
    """A module whose way is a function, with attributes as given."""

    def __init__(self, inputs: int, outputs: int, way: Callable[..., Tensor], **attributes: Any) -> None:
        super().__init__()
        self.map = nn.Linear(inputs, outputs)
        self.way = way
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def batch_normed(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, outputs))


def convolved(inputs: int, outputs: int) -> nn.Module:
    head = nn.Linear(3 * inputs, outputs)
    return nn.Sequential(
        nn.Unflatten(1, (1, inputs)), nn.Conv1d(1, 3, 3, padding=1), nn.BatchNorm1d(3), nn.Flatten(), head
    )


class Tied(nn.Module):
    """Reads through one weight twice, and keeps a mean of its inputs by replacing a buffer."""

    mean: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, inputs)
        self.again = self.first
        self.last = nn.Linear(inputs, outputs)
        self.register_buffer("mean", torch.zeros(inputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.last(torch.tanh(self.again(torch.tanh(self.first(x - self.mean)))))


FITTING = {
    "linear": lambda inputs, outputs: nn.Linear(inputs, outputs),
    "batch norm": batch_normed,
    "batch norm of dead units": lambda inputs, outputs: nn.Sequential(
        *batch_normed(inputs, 16)[:-1],
        nn.Linear(7, 64),
        nn.ReLU(),
        nn.BatchNorm1d(64),
        nn.Linear(64, outputs),
    ),
    "convolution": convolved,
    "tied weights and a replaced buffer": Tied,
    "layer norm": lambda inputs, outputs: nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, outputs)),
    "embedding": lambda inputs, outputs: Written(
        inputs, outputs, lambda self, x: self.map(F.one_hot(x[:, 0].long() * 0, inputs).to(x))
    ),
}
each_fitting = pytest.mark.parametrize("source", FITTING.values(), ids=FITTING)


def network(source: Any, seed: int = 0) -> ModuleNetwork:
    return ModuleNetwork(source, (INPUTS,), TWO_HEADS, seed)


@pytest.mark.cases(2)
@pytest.mark.parametrize("training", [True, False])
@each_fitting
def test_stacked_modules_are_the_single_ones(source: Any, training: bool) -> None:
    first = network(source)
    assert first.stacking_obstacle() is None
    several = [numbers(network(source, seed), 10 * seed) for seed in range(3)]
    parameters, buffers = (stack([pair[i] for pair in several]) for i in (0, 1))
    before = {k: v.clone() for k, v in buffers.items()}
    x = drawn(7, 3, BATCH, INPUTS)
    seen = x.clone()
    together = evaluated(first, parameters, buffers, x, training)
    assert torch.equal(x, seen)
    assert all(torch.equal(buffers[k], v) for k, v in before.items()), "buffers are values"
    for name, port in together[0].items():
        assert port.shape == (3, BATCH, *first.port_shape(name))
    for i, (p, b) in enumerate(several):
        alone = evaluated(network(source, i), p, b, x[i], training)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(member(ours, i), theirs, rtol=1e-12, atol=1e-11)


def branching(self: nn.Module, x: Tensor) -> Tensor:
    return self.map(x) if x.sum() > 0 else self.map(-x)  # type: ignore[operator]


def differing(inputs: int, outputs: int) -> nn.Module:
    """Two of them differ in a tensor that is no buffer."""
    mask = torch.rand(inputs)
    return Written(inputs, outputs, lambda self, x: self.map(x * mask))


def written(way: Callable[..., Tensor], **attributes: Any) -> Callable[[int, int], nn.Module]:
    return lambda inputs, outputs: Written(inputs, outputs, way, **attributes)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            lambda inputs, outputs: nn.Sequential(nn.Linear(inputs, outputs), nn.Dropout()),
            "vmap fails: called random operation",
        ),
        (
            written(branching),
            "vmap fails: It looks like you're attempting to use a Tensor in some data-dep",
        ),
        (differing, "its results differ when stacked"),
    ],
)
def test_what_cannot_be_stacked_says_why_in_one_line(source: Any, why: str) -> None:
    state = torch.get_rng_state()
    said = some(network(source).stacking_obstacle())
    assert said.startswith(why)
    assert "\n" not in said
    assert torch.equal(torch.get_rng_state(), state)


def test_modules_are_alike_that_are_made_alike() -> None:
    def net(inputs: int, outputs: int, width: int = 8) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, width), nn.Linear(width, outputs))

    first = ModuleNetwork(net, (INPUTS,), TWO_HEADS, 0, {"width": 4}).signature()
    assert first == ModuleNetwork(net, (INPUTS,), TWO_HEADS, 1, {"width": 4}).signature()
    assert first != ModuleNetwork(net, (INPUTS,), TWO_HEADS, 0, {"width": 5}).signature()
    model = net(INPUTS, OUTPUTS, 4)
    assert network(model).signature() == network(model).signature()
    assert network(model).signature() != network(net(INPUTS, OUTPUTS, 4)).signature()
