"""Layers of torch whose biases before batch norm are left out: they have no gradient but rounding noise."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from torch import Tensor, nn


def drop_lost_biases(module: nn.Module) -> None:
    """Take the biases that batch norm takes out again away from linear maps, and out of the running means."""
    for chain in module.modules():
        if isinstance(chain, nn.Sequential):
            for layer, norm in itertools.pairwise(chain.children()):
                if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                    assert norm.running_mean is not None
                    norm.running_mean -= layer.bias.data
                    layer.register_parameter("bias", None)


def without_lost_biases(
    parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return a network's parameters and running statistics as layers have them after `drop_lost_biases`."""
    lost = {f"{key.removesuffix('.norm.mean')}.bias" for key in buffers if key.endswith(".norm.mean")}
    statistics = [
        b - parameters[f"{key.removesuffix('.norm.mean')}.bias"].data if key.endswith(".norm.mean") else b
        for key, b in buffers.items()
    ]
    return [p.data for key, p in parameters.items() if key not in lost], statistics
