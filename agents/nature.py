"""Networks of images and numbers side by side: convolutions with strides, then hidden layers that read the numbers too."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import ClassVar, Literal, Self, Unpack, final

import torch
from pydantic import model_validator
from torch import Tensor

from antiphon.agents.feedforward import HeadedNetwork, Mlp
from antiphon.agents.network import (
    HIDDEN,
    CallSettings,
    ChannelAxis,
    Described,
    Head,
    HiddenOptions,
    Tensors,
    features_of,
    sub,
    with_prefix,
)
from antiphon.base import extensions
from antiphon.base.errors import ScenarioError
from antiphon.base.problems import DocumentError
from antiphon.base.spec import Counts
from antiphon.nets.layers import ACTIVATIONS, convolution, initial_linear, initial_norm, layer, norm_buffers
from antiphon.nets.site_axes import as_maps

_DENSE = "dense"


@final
@extensions.network("nature")
class Nature(HeadedNetwork):
    """Convolutions without padding over the observed images, then hidden layers that read all other inputs beside their features.

    The defaults are the network of Mnih et al. 2015, "Human-level control through deep reinforcement learning" (Nature CNN).

    Args:
        observed: Shape of each observation, and its layout if it is an image of two or three axes (see `as_maps`).
        inputs: Components of one sample: the flattened observations one after the other, then messages.
        heads: Its outputs.

    Raises:
        ScenarioError: No image is observed, images differ in height or width, or filters are larger than what they read.
    """

    class Options(HiddenOptions):
        """Keys of the network.

        Attributes:
            hidden: Widths of the hidden layers after the convolutions, which read all other observations and messages too.
            norm: Normalisation after every layer.
            filters: Number of filters of each convolution.
            sizes: Height and width of the filters of each, in pixels.
            strides: Stride of each, in pixels.
            channels: Axis of the channels of observed images with three axes: `first` (torch) or `last` (numpy, Gymnasium);
                None: as the environment has them. Images with two axes have one channel.
        """

        hidden: Counts = (512,)
        norm: Literal["batch", "layer", "none"] | None = "none"
        filters: Counts = (32, 64, 64)
        sizes: Counts = (8, 4, 3)
        strides: Counts = (4, 2, 1)
        channels: ChannelAxis = None

        @model_validator(mode="after")
        def _fits(self) -> Self:
            for key, numbers in (("hidden", self.hidden), ("filters", self.filters)):
                if not numbers:
                    raise DocumentError((key,), "is empty; a nature network needs at least one")
            for key, numbers in (("sizes", self.sizes), ("strides", self.strides)):
                if len(numbers) != len(self.filters):
                    message = f"has {len(numbers)} entries for {len(self.filters)} filters; give one for each"
                    raise DocumentError((key,), message)
            return self

    sees_images: ClassVar[bool] = True
    may_be_critic: ClassVar[bool] = True

    @classmethod
    def of_kind(cls, described: Described) -> Nature:
        options = {key: value for key, value in described.options.items() if key != "channels"}
        return cls(described.observed, features_of(described.inputs), heads=described.heads, **options)

    def __init__(
        self,
        observed: tuple[tuple[tuple[int, ...], str], ...],
        inputs: int,
        *,
        filters: tuple[int, ...],
        sizes: tuple[int, ...],
        strides: tuple[int, ...],
        hidden: tuple[int, ...],
        heads: tuple[Head, ...],
        norm: str = "none",
        activation: str = "relu",
    ) -> None:
        super().__init__((inputs,), heads)
        self.strides, self.norm, self.activation = strides, norm, activation
        self.images: list[tuple[int, tuple[int, ...], str]] = []
        """Each image: where it begins in a sample, its shape and layout."""
        start, maps = 0, []
        for shape, layout in observed:
            if len(shape) in (2, 3):
                self.images.append((start, shape, layout))
                maps.append(tuple(as_maps(torch.empty(1, *shape, device="meta"), layout).shape[1:]))
            start += features_of(shape)
        if len({shape[1:] for shape in maps}) != 1:
            shown = ", ".join(str(list(shape)) for shape, _ in observed)
            need = "one or more images of equal height and width"
            raise ScenarioError(
                f"network.kind: nature observes {need}, and here are {shown}; use mlp, or wrap the environment"
            )
        channels, extent = sum(shape[0] for shape in maps), maps[0][1:]
        self.weights: list[tuple[int, ...]] = []
        for count, size, stride in zip(filters, sizes, strides, strict=True):
            self.weights.append((count, channels, size, size))
            if size > min(extent):
                have = "x".join(map(str, extent))
                raise ScenarioError(
                    f"network.sizes: filters of {size} do not fit into maps of {have}; give filters, sizes and strides that do, "
                    "such as filters: [32, 64], sizes: [2, 2], strides: [1, 1]"
                )
            channels, extent = count, tuple((side - size) // stride + 1 for side in extent)
        unmapped = inputs - sum(features_of(shape) for _, shape, _ in self.images)
        features = channels * features_of(extent) + unmapped
        self.dense = Mlp((features,), hidden, (), norm=norm, activation=activation)

    def trunk_shape(self) -> tuple[int, ...]:
        return self.dense.trunk_shape()

    def trunk_signature(self) -> Hashable:
        shape = tuple(self.images), tuple(self.weights), self.strides
        return *shape, self.norm, self.activation, self.dense.signature()

    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        initial: Tensors = {}
        for i, shape in enumerate(self.weights):
            weight, bias = initial_linear(features_of(shape[1:]), shape, generator)
            initial |= {f"conv{i}.weight": weight, f"conv{i}.bias": bias}
            initial |= initial_norm(self.norm, shape[0], f"conv{i}.norm.")
        return initial | with_prefix(_DENSE, self.dense.parameters(generator))

    def trunk_buffers(self) -> Tensors:
        buffers: Tensors = {}
        for i, shape in enumerate(self.weights):
            buffers |= norm_buffers(self.norm, shape[0], f"conv{i}.norm.")
        return buffers | with_prefix(_DENSE, self.dense.buffers())

    def trunk(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        maps, flat = self._divided(x)
        after: Tensors = {}
        for i, stride in enumerate(self.strides):
            apply: Callable[[Tensor, Tensor, Tensor | None], Tensor] = partial(convolution, stride=stride)
            maps, updated = layer(
                apply, maps, parameters, buffers, f"conv{i}", self.norm, training=settings["training"]
            )
            after |= updated
            maps = ACTIVATIONS[self.activation](maps)
        joined = torch.cat([maps.flatten(-3), *flat], -1)
        dense_parameters, dense_buffers = sub(parameters, _DENSE), sub(buffers, _DENSE)
        ports, updated = self.dense(dense_parameters, dense_buffers, joined, training=settings["training"])
        return {HIDDEN: ports[HIDDEN]}, after | with_prefix(_DENSE, updated)

    def _divided(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the images of samples [..., inputs] as maps [..., channels, height, width], and what is beside them."""
        maps, flat, end = [], [], 0
        for start, shape, layout in self.images:
            flat.append(x[..., end:start])
            end = start + features_of(shape)
            images = x[..., start:end].reshape(-1, *shape)
            image_maps = as_maps(images, layout)
            maps.append(image_maps.reshape(*x.shape[:-1], *image_maps.shape[1:]))
        flat.append(x[..., end:])
        return maps[0] if len(maps) == 1 else torch.cat(maps, -3), flat
