"""The axis of a message's features: the channels of a `Conv1d` are first, the features of a token last, whatever the shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon import Scenario, Simulation
from antiphon.agents.models import MapHead

ROWS, LENGTH = 40, 8


class Wave(nn.Module):
    """Residual blocks of convolutions over [batch, channels, length]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, 6, 3, padding=1), nn.BatchNorm1d(6), nn.ReLU())
        self.blocks = nn.ModuleList(nn.Conv1d(6, 6, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x).relu()
        logits: Tensor = self.head(x.mean(2))
        return logits


class Mixer(nn.Module):
    """Tokens [batch, length, features], mixed by a linear map over their length (Tolstikhin et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 6, 1)
        self.blocks = nn.ModuleList(nn.Linear(LENGTH, LENGTH) for _ in range(2))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).transpose(1, 2)
        for block in self.blocks:
            x = x + block(x.mT).mT.relu()
        logits: Tensor = self.head(x.mean(1))
        return logits


class Swin(nn.Module):
    """Maps with their channels last, [batch, height, width, channels]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6)) for _ in range(2))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.unflatten(2, (2, 4))).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = x + block(x)
        logits: Tensor = self.head(x.flatten(1, 2).mean(1))
        return logits


class Places(Wave):
    """A class for every place."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x).relu()
        logits: Tensor = self.head(x.mT)
        return logits


def split_at_the_second_block(model: nn.Module, gradient: Any, *, places: bool = False) -> Scenario:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 1, LENGTH, generator=generator)
    labels = torch.randint(4, (ROWS, LENGTH) if places else (ROWS,), generator=generator)
    env = antiphon.envs.from_tensors(x=x, label=labels, training_only=["label"])
    return antiphon.split(model, at=["blocks.1"], env=env, gradient=gradient, batch=4)


@pytest.mark.parametrize(
    ("model", "head", "size"),
    [
        (Wave, MapHead, (6, LENGTH, 1)),
        (Mixer, "LayerNorm((6,)", (LENGTH, 6)),
        (Swin, "LayerNorm((6,)", (LENGTH, 6)),
    ],
)
def test_heads_and_small_maps_read_the_features_that_the_layers_made(
    model: type[nn.Module], head: Any, size: tuple[int, ...]
) -> None:
    split = split_at_the_second_block(model(), "local")
    network = split.channels[0].gradient.network
    assert network is head or head in repr(network)
    Simulation(split).run(steps=1)
    linear = split_at_the_second_block(model(), {"kind": "linear", "sites": True, "context": ["label"]})
    assert linear.channels[0].size == size
    Simulation(linear).run(steps=1)


class Chain(nn.Module):
    """Layers of one sample before the cut, in front of `blocks.1`."""

    def __init__(self, *before: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(*before), nn.Flatten()])
        self.head = nn.LazyLinear(4)
        self(torch.zeros(2, 1, LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks[1](self.blocks[0](x)))
        return logits


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


CONV, TOKENS = nn.Conv1d(1, LENGTH, 1), Apply(lambda x: x.mT)


@pytest.mark.parametrize(
    ("before", "size"),
    [
        ((CONV, nn.GELU(), nn.BatchNorm1d(LENGTH)), (LENGTH, LENGTH, 1)),
        ((CONV, Apply(lambda x: x.unflatten(2, (2, 4)).amax(3))), (LENGTH, 2, 1)),
        ((CONV, Apply(lambda x: x.unflatten(2, (2, 4)).mean(dim=(2,)))), (LENGTH, 4, 1)),
        (
            (CONV, Apply(lambda x: torch.einsum("bct,cd->btd", x, torch.ones(LENGTH, LENGTH)))),
            (LENGTH, LENGTH),
        ),
        ((CONV, Apply(lambda x: x.mT @ torch.ones(LENGTH, LENGTH))), (LENGTH, LENGTH)),
        ((TOKENS, nn.Linear(1, 6), nn.BatchNorm1d(LENGTH)), (LENGTH, 6)),
        ((TOKENS, nn.Linear(1, 6), nn.Conv1d(LENGTH, LENGTH, 1)), (LENGTH, 6)),
    ],
)
def test_an_axis_that_is_not_certain_is_that_of_tokens(
    before: tuple[nn.Module, ...], size: tuple[int, ...]
) -> None:
    assert split_at_the_second_block(Chain(*before), "linear").channels[0].size == size


DENSE = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH, 6))


@pytest.mark.parametrize(
    ("before", "size"),
    [
        ((DENSE, Apply(lambda x: x[:, :, None])), (6, 1, 1)),
        ((DENSE, nn.ReLU(), Apply(lambda x: x.unsqueeze(-1))), (6, 1, 1)),
        ((DENSE, Apply(lambda x: x[:, None])), (1, 6)),
        ((DENSE, Apply(lambda x: x.unflatten(1, (2, 3)))), (2, 3)),
        ((CONV, Apply(lambda x: x[:, ::2])), (LENGTH // 2, LENGTH, 1)),
        ((CONV, Apply(lambda x: x[:, 1:5])), (4, LENGTH, 1)),
        ((CONV, Apply(lambda x: x[:, :, ::2])), (LENGTH, LENGTH // 2, 1)),
        ((CONV, Apply(lambda x: x.unflatten(2, (2, 4)).flatten(1, 2))), (2 * LENGTH, 4, 1)),
        ((TOKENS, nn.Linear(1, 6), Apply(lambda x: x[..., ::2])), (LENGTH, 3)),
        ((TOKENS, nn.Linear(1, 6), Apply(lambda x: x.unflatten(1, (2, 4)).flatten(2, 3))), (2, 24)),
    ],
)
def test_a_view_keeps_the_axis_also_where_it_has_some_of_the_features_or_more(
    before: tuple[nn.Module, ...], size: tuple[int, ...]
) -> None:
    """Of a vector that is divided, none is certain."""
    assert split_at_the_second_block(Chain(*before), "linear").channels[0].size == size


@pytest.mark.parametrize(
    ("model", "gradient", "size", "sites"),
    [
        (Wave, "linear", (6, LENGTH, 1), True),
        (Swin, "linear", (LENGTH, 6), False),
        (Swin, "conv", (2, 4, 6), None),
    ],
)
def test_sites_are_by_default_those_of_messages_of_two_axes(
    model: type[nn.Module], gradient: str, size: tuple[int, ...], sites: bool | None
) -> None:
    """A convolution reads maps as they are."""
    split = split_at_the_second_block(model(), {"kind": gradient})
    assert split.channels[0].size == size
    assert split.channels[0].gradient.get("sites", None) is sites
    with Simulation(split) as simulation:
        simulation.run(steps=1)
        learned = simulation.channels[split.channels[0].name].synthetic_gradient
    assert learned is not None
    features = 6 if sites else 6 * LENGTH
    if sites is not None:
        assert any(one.shape[-2:] == (features, features) for one in learned.parameters.values())


def test_a_head_has_an_output_for_every_place_of_a_convolution() -> None:
    split = split_at_the_second_block(Places(), "local", places=True)
    network = split.channels[0].gradient.network
    assert network(torch.randn(3, 6, LENGTH)).shape == (3, LENGTH, 4)
    Simulation(split).run(steps=1)


def test_a_network_of_your_own_reads_the_message_as_the_model_does() -> None:
    head = nn.Sequential(nn.Conv1d(6, 4, LENGTH), nn.Flatten())
    split = split_at_the_second_block(Wave(), {"kind": "local", "target": "label", "network": head})
    assert split.channels[0].size == (6, LENGTH)
    Simulation(split).run(steps=1)
