"""The axis of a message's features: the channels of a `Conv1d` are first, the features of a token last, whatever the shape."""

from __future__ import annotations

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
