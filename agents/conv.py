"""Convolutional networks."""

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
    norm_module,
    transported,
)
from antiphon.agents.mlp import ACTIVATION_MODULES
from antiphon.agents.network import HIDDEN, Emitter, Head, Tensors, Transport, sub, with_prefix
from antiphon.errors import ScenarioError
from antiphon.nets.layers import ACTIVATIONS, POOL, bias_places, convolution, normalise, pool

__all__ = ["POOLS", "Conv"]

POOLS = ("max", "avg", "none")


@final
class Conv(HeadedNetwork):
    """Layers of same-padded convolution, normalisation per channel, activation and 3x3 pooling of stride 2.

    The form of the paper's convolutional networks (Jaderberg et al. 2017, appendix A).

    Args:
        input_shape: (channels, height, width).
        filters: Filters of each layer.
        heads: Its outputs.
        norm: `batch`, `layer` or `none`.
        activation: `relu`, `tanh`, `gelu` or `identity`.
        filter: Side of the filters (odd).
        pool: `max`, `avg` or `none`, one per layer.

    Raises:
        ScenarioError: If the filters' side is even, so that no padding keeps the image's size.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        filters: tuple[int, ...],
        heads: tuple[Head, ...],
        *,
        norm: str = "batch",
        activation: str = "relu",
        filter: int = 5,
        pool: tuple[str, ...] = (),
    ) -> None:
        if filter % 2 == 0:
            raise ScenarioError(
                f"network.filter: {filter} is even and cannot be centred on a pixel; use {filter + 1}"
            )
        super().__init__(input_shape, heads)
        self.filters = filters
        self.norm = norm
        self.activation = activation
        self.filter = filter
        self.pool = pool or ("none",) * len(filters)

    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of one sample before the first layer and after each."""
        _, height, width = self.input_shape
        shapes = [self.input_shape]
        for count, pooling in zip(self.filters, self.pool, strict=True):
            if pooling != "none":
                height, width = (height + 1) // POOL[1], (width + 1) // POOL[1]
            shapes.append((count, height, width))
        return shapes

    def trunk_shape(self) -> tuple[int, ...]:
        return self.shapes()[-1]

    def first_layer(self) -> dict[str, tuple[int, ...]]:
        return {"0": self.layer_shapes()[0]} if self.filters else {}

    def layer_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape [filters, channels, side, side] of each layer's weight."""
        sizes = zip(self.filters, self.input_shape[:1] + self.filters, strict=False)
        return [(count, channels, self.filter, self.filter) for count, channels in sizes]

    def trunk_signature(self) -> Hashable:
        return (self.filters, self.norm, self.activation, self.filter, self.pool) if self.filters else ()

    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        return initial_layers(self.layer_shapes(), self.norm, generator)

    def trunk_buffers(self) -> Tensors:
        return layer_buffers(self.filters, self.norm)

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
        for i, pooling in enumerate(self.pool):
            bias, bias_before = bias_places(self.norm, parameters[f"{i}.bias"])
            x = convolution(x, parameters[f"{i}.weight"], bias)
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
            x = pool(pooling, activation(x))
        return {HIDDEN: x}, after

    def emit_trunk(self, root: nn.Module, name: str, parameters: Tensors, buffers: Tensors) -> Emitter:
        layers: list[nn.Module] = []
        before = self.input_shape
        for i, (pooling, shape) in enumerate(zip(self.pool, self.shapes()[1:], strict=True)):
            weight = parameters[f"{i}.weight"]
            layer = nn.Conv2d(
                before[0],
                shape[0],
                self.filter,
                padding=self.filter // 2,
                device=weight.device,
                dtype=weight.dtype,
            )
            layer.load_state_dict({"weight": weight, "bias": parameters[f"{i}.bias"]})
            layers.append(layer)
            if self.norm != "none":
                key = f"{i}.norm"
                full = (shape[0], *before[1:])
                layers.append(norm_module(self.norm, full, sub(parameters, key), sub(buffers, key)))
            layers.append(ACTIVATION_MODULES[self.activation]())
            if pooling != "none":
                kind = nn.MaxPool2d if pooling == "max" else nn.AvgPool2d
                layers.append(kind(*POOL))
            before = shape
        return SequentialEmitter(root, name, layers)
