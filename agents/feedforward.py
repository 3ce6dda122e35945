"""Networks of a trunk and heads, the base of the built-in kinds, and the kinds without a state: multi-layer perceptrons
and convolutional networks. Their named layers: initial parameters and buffers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self, Unpack, final

import torch
from pydantic import model_validator
from torch import Tensor

from antiphon.agents.network import (
    HIDDEN,
    OBJECTIVE,
    CallSettings,
    ChannelAxis,
    Described,
    Head,
    HiddenOptions,
    Network,
    Tensors,
    features_of,
    unnamed,
)
from antiphon.base import extensions
from antiphon.base.errors import ScenarioError, with_count
from antiphon.base.problems import DocumentError
from antiphon.base.spec import Count
from antiphon.base.spec import Sequence as IsSequence
from antiphon.nets import random
from antiphon.nets.layers import (
    ACTIVATIONS,
    POOL,
    convolution,
    initial_linear,
    initial_norm,
    layer,
    linear,
    norm_buffers,
    pool,
)


class HeadedNetwork(Network):
    """Networks of a trunk and heads: base of the built-in kinds."""

    objective_is_linear: ClassVar[bool] = True
    """Whether the head of the objective is a linear map, as the others are."""

    @classmethod
    @abstractmethod
    def of_kind(cls, described: Described) -> HeadedNetwork:
        """Return the network that a scenario describes.

        Raises:
            ScenarioError: The options do not fit the inputs or the heads.
        """

    @abstractmethod
    def trunk_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the last hidden activation (of the input if there is no hidden layer)."""

    @abstractmethod
    def trunk_signature(self) -> Hashable:
        """Return the settings of the trunk's function, as a key."""

    @abstractmethod
    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        """Sample the trunk's parameters."""

    @abstractmethod
    def trunk_buffers(self) -> Tensors:
        """Return the trunk's initial buffers."""

    @abstractmethod
    def trunk(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        """Return the trunk's ports, `HIDDEN` among them, and its new buffers."""

    @cached_property
    def linear_heads(self) -> Mapping[str, Head]:
        """The heads that are linear maps of the last hidden activation; other heads are ports of the trunk."""
        return {n: head for n, head in self.heads.items() if self.objective_is_linear or n != OBJECTIVE}

    def parameters(self, generator: torch.Generator) -> Tensors:
        initial = self.trunk_parameters(generator)
        inputs = features_of(self.trunk_shape())
        for head in self.linear_heads.values():  # seeded by name: independent of other heads
            head_generator = random.generator(generator.initial_seed(), head.name)
            weight, bias = initial_linear(inputs, (head.features, inputs), head_generator)
            initial |= {f"{head.name}.weight": weight, f"{head.name}.bias": bias}
            initial |= initial_norm(head.norm, head.features, f"{head.name}.norm.")
        return initial

    def buffers(self) -> Tensors:
        buffers = self.trunk_buffers()
        for head in self.linear_heads.values():
            buffers |= norm_buffers(head.norm, head.features, f"{head.name}.norm.")
        return buffers

    def __call__(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        assert settings.get("state") is None or self.state_size  # a network without state takes none
        ports, after = self.trunk(parameters, buffers, x, **settings)
        flat, without = ports[HIDDEN].flatten(x.dim() - len(self.input_shape)), settings.get("without", ())
        heads = [name for name in self.linear_heads if name not in without]
        of_heads, updated = self._heads(parameters, buffers, flat, heads, **settings)
        return ports | of_heads, after | updated

    def from_hidden(
        self, parameters: Tensors, buffers: Tensors, hidden: Tensor, heads: Collection[str], *, training: bool
    ) -> Tensors:
        flat = hidden.flatten(hidden.dim() - len(self.trunk_shape()))
        return self._heads(parameters, buffers, flat, heads, training=training)[0]

    def _heads(
        self,
        parameters: Tensors,
        buffers: Tensors,
        flat: Tensor,
        heads: Collection[str],
        **settings: Unpack[CallSettings],
    ) -> tuple[Tensors, Tensors]:
        """Some linear heads of the last hidden activation, and their new buffers."""
        training = settings["training"]
        ports: Tensors = {}
        after: Tensors = {}
        for name in heads:
            head = self.linear_heads[name]
            y, updated = layer(linear, flat, parameters, buffers, name, head.norm, training=training)
            after |= updated
            ports[name] = y if len(head.size) == 1 else y.reshape(*y.shape[:-1], *head.size)
        return ports, after

    def port_shape(self, port: str) -> tuple[int, ...]:
        return self.trunk_shape() if port == HIDDEN else self.heads[port].size

    def signature(self) -> Hashable:
        return type(self), self.input_shape, unnamed(self.heads.values()), self.trunk_signature()


class _Layered(HeadedNetwork):
    """Hidden layers, each a map, a normalisation, an activation and, of images, pooling; then heads."""

    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """Linear map of every layer: a function of input, weight and bias."""
    sides: tuple[int, ...] = ()
    """Height and width of the filters, for convolutional layers."""
    pool: tuple[str, ...] = ()
    """Pooling after each layer; empty: none."""
    may_be_critic: ClassVar[bool] = True

    @classmethod
    def of_kind(cls, described: Described) -> HeadedNetwork:
        layers: Callable[..., HeadedNetwork] = cls  # the kinds name what they have layers of
        # Where the channels of an image are belongs to what is observed: see `Shapes.layouts`.
        layer_options = {
            key: value for key, value in described.options.items() if key not in ("hidden", "channels")
        }
        return layers(described.inputs, described.options["hidden"], described.heads, **layer_options)

    def __init__(
        self,
        input_shape: tuple[int, ...],
        widths: tuple[int, ...],
        heads: tuple[Head, ...],
        norm: str,
        activation: str,
    ) -> None:
        super().__init__(input_shape, heads)
        self.widths = widths
        self.norm = norm
        self.activation = activation

    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of one sample before the first layer and after each."""
        shapes = [self.input_shape]
        for i, width in enumerate(self.widths):
            space = shapes[-1][1:]
            if self.pool and self.pool[i] != "none":
                space = tuple((extent + 1) // POOL[1] for extent in space)
            shapes.append((width, *space))
        return shapes

    def trunk_shape(self) -> tuple[int, ...]:
        return self.shapes()[-1]

    def layer_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape [outputs, inputs, …] of each hidden layer's weight."""
        sizes = zip(self.widths, self.input_shape[:1] + self.widths, strict=False)
        return [(outputs, inputs, *self.sides) for outputs, inputs in sizes]

    def trunk_signature(self) -> Hashable:
        return (self.widths, self.norm, self.activation, self.sides, self.pool) if self.widths else ()

    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        initial: Tensors = {}
        for i, shape in enumerate(self.layer_shapes()):
            weight, bias = initial_linear(features_of(shape[1:]), shape, generator)
            initial |= {f"{i}.weight": weight, f"{i}.bias": bias}
            initial |= initial_norm(self.norm, shape[0], f"{i}.norm.")
        return initial

    def trunk_buffers(self) -> Tensors:
        buffers: Tensors = {}
        for i, width in enumerate(self.widths):
            buffers |= norm_buffers(self.norm, width, f"{i}.norm.")
        return buffers

    def trunk(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        apply, activation = self.apply, ACTIVATIONS[self.activation]
        training = settings["training"]
        after: Tensors = {}
        for i in range(len(self.widths)):
            x, updated = layer(apply, x, parameters, buffers, str(i), self.norm, training=training)
            after |= updated
            x = activation(x)
            if self.pool:
                x = pool(self.pool[i], x)
        return {HIDDEN: x}, after


@extensions.network("mlp")
class Mlp(_Layered):
    """Layers of linear map, normalisation and activation, then heads.

    Args:
        input_shape: Shape of one sample; flattened.
    """

    apply = staticmethod(linear)
    without_layers: ClassVar[str | None] = "linear"

    class Options(HiddenOptions):
        """Keys of a multi-layer perceptron."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        hidden: tuple[int, ...],
        heads: tuple[Head, ...],
        *,
        norm: str = "batch",
        activation: str = "relu",
    ) -> None:
        super().__init__((features_of(input_shape),), hidden, heads, norm, activation)


@final
@extensions.network("conv")
class Conv(_Layered):
    """Layers of same-padded convolution, normalisation per channel, activation and 3x3 pooling of stride 2.

    The architecture of the paper's convolutional networks (Jaderberg et al. 2017, appendix A).

    Args:
        input_shape: (channels, height, width).
        filters: Number of filters of each layer.

    Raises:
        ScenarioError: The filters' size is even, so that no padding keeps the image's size.
    """

    apply = staticmethod(convolution)
    on_maps: ClassVar[bool] = True

    class Options(HiddenOptions):
        """Keys of a convolutional network.

        Attributes:
            size: Height and width of the filters, in pixels.
            pool: Pooling after each convolution; one entry per layer, or an empty list.
            channels: Axis of the channels of observed images with three axes: `first` (torch) or `last` (numpy, Gymnasium);
                None: as the environment has them. Images with two axes have one channel.
        """

        size: Count = 5
        pool: Annotated[tuple[Literal["max", "avg", "none"], ...], IsSequence] = ()
        channels: ChannelAxis = None

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if not self.hidden:
                raise DocumentError(("hidden",), "a conv network needs at least one layer of filters")
            if self.pool and len(self.pool) != len(self.hidden):
                layers = with_count(len(self.hidden), "hidden layer")
                raise DocumentError(
                    ("pool",), f"has {len(self.pool)} entries for {layers}; give one for each"
                )
            return self

        def input_shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
            if any(len(shape) != 3 for shape in shapes) or len({shape[1:] for shape in shapes}) > 1:
                shown = ", ".join(str(list(shape)) for shape in shapes)
                message = f"a conv network needs [channels, height, width] inputs of equal height and width, got {shown}; use mlp, nature for images beside numbers, or images alone"
                raise DocumentError((), message)
            return (sum(shape[0] for shape in shapes), *shapes[0][1:])

        def hidden_shape(
            self, inputs: tuple[int, ...] | None, candidates: Callable[[], tuple[int, ...]]
        ) -> tuple[int, ...] | None:
            if inputs is None:
                return None
            return Conv(inputs, self.hidden, (), size=self.size, pool=self.pool).trunk_shape()

    def __init__(
        self,
        input_shape: tuple[int, ...],
        filters: tuple[int, ...],
        heads: tuple[Head, ...],
        *,
        norm: str = "batch",
        activation: str = "relu",
        size: int = 5,
        pool: tuple[str, ...] = (),
    ) -> None:
        if size % 2 == 0:
            raise ScenarioError(
                f"network.size: {size} is even and cannot be centred on a pixel; use {size + 1}"
            )
        super().__init__(input_shape, filters, heads, norm, activation)
        self.sides = (size, size)
        self.pool = () if set(pool) <= {"none"} else pool
