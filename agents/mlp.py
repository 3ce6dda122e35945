"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from antiphon.agents.headed import (
    HeadedNetwork,
    SequentialEmitter,
    initial_layers,
    layer_buffers,
    linear_module,
    norm_module,
    transported,
)
from antiphon.agents.network import HIDDEN, Emitter, Head, Tensors, Transport, features_of, sub, with_prefix
from antiphon.nets.layers import ACTIVATIONS, bias_places, linear, normalise

__all__ = ["ACTIVATION_MODULES", "Mlp"]

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}


@final
class Mlp(HeadedNetwork):
    """Layers of linear map, normalisation and activation, then heads.

    Args:
        input_shape: Shape of one sample; flattened.
        hidden: Width of each hidden layer; may be empty.
        heads: Its outputs.
        norm: Of the hidden layers: `batch`, `layer` or `none`.
        activation: `relu`, `tanh`, `gelu` or `identity`.
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

    def first_layer(self) -> dict[str, tuple[int, ...]]:
        return {"0": self.layer_shapes()[0]} if self.hidden else {}

    def layer_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape [outputs, inputs] of each hidden layer's weight."""
        return list(zip(self.hidden, self.input_shape + self.hidden, strict=False))

    def trunk_signature(self) -> Hashable:
        return (self.hidden, self.norm, self.activation) if self.hidden else ()

    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        return initial_layers(self.layer_shapes(), self.norm, generator)

    def trunk_buffers(self) -> Tensors:
        return layer_buffers(self.hidden, self.norm)

    def trunk(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        *,
        training: bool,
        transports: Sequence[Transport],
        state: Tensor | None,
    ) -> tuple[Tensors, Tensors]:
        activation = ACTIVATIONS[self.activation]
        after: Tensors = {}
        for i in range(len(self.hidden)):
            bias, bias_before = bias_places(self.norm, parameters[f"{i}.bias"])
            x = linear(x, parameters[f"{i}.weight"], bias)
            x = transported(x, f"{i}.weight", transports)
            if self.norm != "none":
                key = f"{i}.norm"
                x, moved = normalise(
                    self.norm,
                    x,
                    sub(parameters, key),
                    sub(buffers, key),
                    training=training,
                    bias_before=bias_before,
                )
                after |= with_prefix(key, moved)
            x = activation(x)
        return {HIDDEN: x}, after

    def emit_trunk(self, root: nn.Module, name: str, parameters: Tensors, buffers: Tensors) -> Emitter:
        layers: list[nn.Module] = []
        for i, width in enumerate(self.hidden):
            layers.append(linear_module(parameters[f"{i}.weight"], parameters[f"{i}.bias"]))
            if self.norm != "none":
                key = f"{i}.norm"
                layers.append(norm_module(self.norm, (width,), sub(parameters, key), sub(buffers, key)))
            layers.append(ACTIVATION_MODULES[self.activation]())
        return SequentialEmitter(root, name, layers)
