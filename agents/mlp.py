"""Multi-layer perceptrons."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from antiphon.agents.network import (
    Head,
    HeadedNetwork,
    Tensors,
    features_of,
    linear_module,
    norm_module,
    sub,
    with_prefix,
)
from antiphon.nets.layers import ACTIVATIONS, initial_linear, initial_norm, linear, norm_buffers, normalise

__all__ = ["ACTIVATION_MODULES", "Mlp"]

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


@final
class Mlp(HeadedNetwork):
    """Layers of linear map, normalisation and activation, then heads.

    Args:
        input_shape: Shape of one sample; flattened.
        hidden: Width of each hidden layer; may be empty.
        heads: Its outputs.
        norm: Of the hidden layers: `batch`, `layer` or `none`.
        activation: `relu`, `tanh` or `gelu`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        hidden: tuple[int, ...],
        heads: tuple[Head, ...],
        *,
        norm: str = "batch",
        activation: str = "relu",
    ) -> None:
        super().__init__((features_of(input_shape),), heads)
        self.hidden = hidden
        self.norm = norm
        self.activation = activation

    def trunk_shape(self) -> tuple[int, ...]:
        return self.hidden[-1:] or self.input_shape

    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        drawn: Tensors = {}
        inputs = self.input_shape[0]
        for i, width in enumerate(self.hidden):
            weight, bias = initial_linear(inputs, (width, inputs), generator)
            drawn |= {f"{i}.weight": weight, f"{i}.bias": bias}
            drawn |= with_prefix(f"{i}.norm", initial_norm(self.norm, width))
            inputs = width
        return drawn

    def trunk_buffers(self) -> Tensors:
        held: Tensors = {}
        for i, width in enumerate(self.hidden):
            held |= with_prefix(f"{i}.norm", norm_buffers(self.norm, width))
        return held

    def trunk(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, *, training: bool
    ) -> tuple[Tensor, Tensors]:
        activation = ACTIVATIONS[self.activation]
        after: Tensors = {}
        for i in range(len(self.hidden)):
            x = linear(x, parameters[f"{i}.weight"], parameters[f"{i}.bias"])
            if self.norm != "none":
                key = f"{i}.norm"
                x, moved = normalise(self.norm, x, sub(parameters, key), sub(buffers, key), training=training)
                after |= with_prefix(key, moved)
            x = activation(x)
        return x, after

    def trunk_modules(self, parameters: Tensors, buffers: Tensors) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, width in enumerate(self.hidden):
            layers.append(linear_module(parameters[f"{i}.weight"], parameters[f"{i}.bias"]))
            if self.norm != "none":
                key = f"{i}.norm"
                layers.append(norm_module(self.norm, (width,), sub(parameters, key), sub(buffers, key)))
            layers.append(ACTIVATION_MODULES[self.activation]())
        return nn.Sequential(*layers)
