"""Users' modules stacked: which can be, whether they are alike, and that they are what each is alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import OBJECTIVE, Head
from tests.agents.made import evaluated, numbers
from tests.kit.some import some
from tests.kit.tensors import drawn, member, stack

INPUTS, BATCH = 4, 6
HEADS = (Head(OBJECTIVE, (3,)), Head("to_b", (2, 1, 2), "batch"), Head("to_c", (2,), "layer"))
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
    return ModuleNetwork(source, (INPUTS,), HEADS, seed)


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

    first = ModuleNetwork(net, (INPUTS,), HEADS, 0, {"width": 4}).signature()
    assert first == ModuleNetwork(net, (INPUTS,), HEADS, 1, {"width": 4}).signature()
    assert first != ModuleNetwork(net, (INPUTS,), HEADS, 0, {"width": 5}).signature()
    model = net(INPUTS, OUTPUTS, 4)
    assert network(model).signature() == network(model).signature()
    assert network(model).signature() != network(net(INPUTS, OUTPUTS, 4)).signature()
