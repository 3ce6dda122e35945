"""Networks of a trunk and heads, the base of the built-in kinds, and the kinds without a state: multi-layer perceptrons,
convolutional networks, networks of images and numbers, and networks that choose among candidates.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Literal, Self, Unpack, final

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
    sub,
    unnamed,
    with_prefix,
)
from antiphon.base import extensions
from antiphon.base.errors import ScenarioError, with_count
from antiphon.base.problems import DocumentError
from antiphon.base.spec import Count, Counts
from antiphon.base.spec import Sequence as IsSequence
from antiphon.nets import random
from antiphon.nets.layers import (
    ACTIVATIONS,
    POOL,
    as_maps,
    convolution,
    initial_layer,
    layer,
    linear,
    norm_buffers,
    pool,
)


class HeadedNetwork(Network):
    """Networks of a trunk and heads: base of the built-in kinds, which make these attributes.

    Attributes:
        layers: Shape [outputs, inputs, …] of the weight of each layer of the trunk, by name.
        parts: What else the trunk is made of: networks and cells, by the prefix of their parameters and buffers.
        trunk_shape: Shape of one sample of the last hidden activation (of the input if there is no hidden layer).
        function: The settings of the trunk's function, as a key.
    """

    layers: Mapping[str, tuple[int, ...]] = {}
    norm: str = "none"
    parts: Mapping[str, Any] = {}
    trunk_shape: tuple[int, ...]
    function: Hashable
    objective_is_linear: ClassVar[bool] = True
    """Whether the head of the objective is a linear map, as the others are."""

    def __init__(self, described: Described) -> None:
        super().__init__(described.inputs, described.heads)

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
        initial: Tensors = {}
        for name, shape in self.layers.items():
            initial |= initial_layer(name, shape, self.norm, generator)
        for prefix, part in self.parts.items():
            initial |= with_prefix(prefix, part.parameters(generator))
        inputs = features_of(self.trunk_shape)
        for name, head in self.linear_heads.items():  # seeded by name: independent of other heads
            own = random.generator(generator.initial_seed(), name)
            initial |= initial_layer(name, (head.features, inputs), head.norm, own)
        return initial

    def buffers(self) -> Tensors:
        buffers: Tensors = {}
        for name, shape in self.layers.items():
            buffers |= norm_buffers(self.norm, shape[0], f"{name}.norm.")
        for prefix, part in self.parts.items():
            buffers |= with_prefix(prefix, part.buffers())
        for name, head in self.linear_heads.items():
            buffers |= norm_buffers(head.norm, head.features, f"{name}.norm.")
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
        flat = hidden.flatten(hidden.dim() - len(self.trunk_shape))
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
            ports[name] = head.shaped(y)
        return ports, after

    def port_shape(self, port: str) -> tuple[int, ...]:
        return self.trunk_shape if port == HIDDEN else self.heads[port].size

    def signature(self) -> Hashable:
        return type(self), self.input_shape, unnamed(self.heads.values()), self.function


class Layered(HeadedNetwork):
    """Hidden layers, each a map, a normalisation, an activation and, of images, pooling; then heads."""

    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor] = staticmethod(linear)

    def __init__(self, described: Described, sides: tuple[int, ...] = (), pool: tuple[str, ...] = ()) -> None:
        super().__init__(described)
        input_shape = described.inputs
        widths, norm, activation = (described.options[key] for key in ("hidden", "norm", "activation"))
        self.widths, self.norm, self.activation, self.pool = widths, norm, activation, pool
        sizes = zip(widths, input_shape[:1] + widths, strict=False)
        self.layers = {str(i): (outputs, inputs, *sides) for i, (outputs, inputs) in enumerate(sizes)}
        space = input_shape[1:]
        for kind in pool:
            space = space if kind == "none" else tuple((extent + 1) // POOL[1] for extent in space)
        self.trunk_shape = (*(input_shape[:1] + widths)[-1:], *space)
        self.function = (widths, norm, activation, sides, pool) if widths else ()

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
class Mlp(Layered):
    """Layers of linear map, normalisation and activation, then heads; inputs are flattened."""

    may_be_critic: ClassVar[bool] = True

    class Options(HiddenOptions):
        """Keys of a multi-layer perceptron."""

    def __init__(self, described: Described) -> None:
        super().__init__(described.flattened())


@final
@extensions.network("conv")
class Conv(Layered):
    """Layers of same-padded convolution, normalisation per channel, activation and 3x3 pooling of stride 2.

    The architecture of the paper's convolutional networks (Jaderberg et al. 2017, appendix A).

    Inputs are (channels, height, width).
    """

    apply = staticmethod(convolution)
    on_maps: ClassVar[bool] = True
    may_be_critic: ClassVar[bool] = True

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
            if self.size % 2 == 0:
                message = f"{self.size} is even and cannot be centred on a pixel; use {self.size + 1}"
                raise DocumentError(("size",), message)
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
            return Conv(Described("conv", dict(self) | {"norm": "none"}, inputs)).trunk_shape

    def __init__(self, described: Described) -> None:
        size, pool = described.options["size"], described.options["pool"]
        super().__init__(described, (size, size), () if set(pool) <= {"none"} else pool)


@final
@extensions.network("nature")
class Nature(HeadedNetwork):
    """Convolutions without padding over the observed images, then hidden layers that read all other inputs beside their features.

    The defaults are the network of Mnih et al. 2015, "Human-level control through deep reinforcement learning" (Nature CNN).
    Inputs are flat: the observations one after the other, then messages.
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

    def __init__(self, described: Described) -> None:
        described = described.flattened()
        super().__init__(described)
        (inputs,), options = described.inputs, described.options
        filters, sizes, strides = options["filters"], options["sizes"], options["strides"]
        self.strides, self.norm, self.activation = strides, options["norm"], options["activation"]
        self.images: list[tuple[int, tuple[int, ...], str]] = []
        """Each image: where it begins in a sample, its shape and layout."""
        start, maps = 0, []
        for shape, layout in described.observed:
            if len(shape) in (2, 3):
                self.images.append((start, shape, layout))
                maps.append(tuple(as_maps(torch.empty(1, *shape, device="meta"), layout).shape[1:]))
            start += features_of(shape)
        if len({shape[1:] for shape in maps}) != 1:
            shown = ", ".join(str(list(shape)) for shape, _ in described.observed)
            need = "one or more images of equal height and width"
            raise ScenarioError(
                f"network.kind: nature observes {need}, and here are {shown}; use mlp, or wrap the environment"
            )
        channels, extent = sum(shape[0] for shape in maps), maps[0][1:]
        layers = {}
        for i, (count, size, stride) in enumerate(zip(filters, sizes, strides, strict=True)):
            layers[f"conv{i}"] = count, channels, size, size
            if size > min(extent):
                have = "x".join(map(str, extent))
                raise ScenarioError(
                    f"network.sizes: filters of {size} do not fit into maps of {have}; give filters, sizes and strides that do, "
                    "such as filters: [32, 64], sizes: [2, 2], strides: [1, 1]"
                )
            channels, extent = count, tuple((side - size) // stride + 1 for side in extent)
        unmapped = inputs - sum(features_of(shape) for _, shape, _ in self.images)
        features = channels * features_of(extent) + unmapped
        dense = Mlp(Described("mlp", options, (features,)))
        self.layers, self.parts, self.trunk_shape = layers, {"dense": dense}, dense.trunk_shape
        maps_function = tuple(self.images), tuple(layers.values()), strides, self.norm, self.activation
        self.function = *maps_function, dense.signature()

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
        own = sub(parameters, "dense"), sub(buffers, "dense"), joined
        ports, updated = self.parts["dense"](*own, training=settings["training"])
        return {HIDDEN: ports[HIDDEN]}, after | with_prefix("dense", updated)

    def _divided(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the images of samples [..., inputs] as maps [..., channels, height, width], and what is beside them."""
        maps, flat, end = [], [], 0
        for start, shape, layout in self.images:
            flat.append(x[..., end:start])
            end = start + features_of(shape)
            image_maps = as_maps(x[..., start:end].reshape(-1, *shape), layout)
            maps.append(image_maps.reshape(*x.shape[:-1], *image_maps.shape[1:]))
        flat.append(x[..., end:])
        return maps[0] if len(maps) == 1 else torch.cat(maps, -3), flat


_EMBEDDING = "embedding"


@final
@extensions.network("pointer")
class Pointer(HeadedNetwork):
    """One perceptron embeds each candidate, another embeds all other inputs; the scores are the products of the embeddings.

    Scores are logits, so that a permutation of the candidates permutes the choice (Vinyals et al. 2015, "Pointer
    networks", eq. 3, with a product; the listener of Lazaridou et al. 2017, "Multi-agent cooperation and the emergence of
    (natural) language"). They are the port `OBJECTIVE` and the last hidden activation, which all other heads read.
    Inputs are flat: the candidates one after the other, then all others. The objective's head has one component per candidate.
    """

    class Options(HiddenOptions):
        """Keys of pointer networks.

        Attributes:
            size: Components of the embeddings.
        """

        size: Count = 128

        def hidden_shape(
            self, inputs: tuple[int, ...] | None, candidates: Callable[[], tuple[int, ...]]
        ) -> tuple[int, ...] | None:
            return candidates()[:1]

    objective_is_linear = False

    def __init__(self, described: Described) -> None:
        described = described.flattened()
        super().__init__(described)
        candidates = described.candidates()
        self.count, self.features = candidates[0], features_of(candidates[1:])
        rest = described.inputs[0] - self.count * self.features
        output_count = self.heads[OBJECTIVE].features if OBJECTIVE in self.heads else 0
        if output_count != self.count:
            raise ScenarioError(
                f"network.kind: pointer has one output for each of {self.count} candidates, its first observation "
                f"{list(candidates)}, but the objective needs {output_count}; observe the candidates first"
            )
        if not rest:
            raise ScenarioError("network.kind: pointer reads only candidates; give it a message as well")
        embedding = (Head(_EMBEDDING, (described.options["size"],)),)
        self.parts = {
            part: Mlp(Described("mlp", described.options, (inputs,), embedding))
            for part, inputs in (("candidate", self.features), ("query", rest))
        }
        self.trunk_shape = (self.count,)
        self.function = self.count, *(network.signature() for network in self.parts.values())

    def trunk(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        columns = self.count * self.features
        rows, count = x.shape[-2], self.count
        read = {
            "candidate": x[..., :columns].reshape(*x.shape[:-2], rows * count, -1),
            "query": x[..., columns:],
        }
        embeddings: Tensors = {}
        after: Tensors = {}
        for name, network in self.parts.items():
            own = sub(parameters, name), sub(buffers, name), read[name]
            ports, updated = network(*own, training=settings["training"])
            embeddings[name] = ports[_EMBEDDING]
            after |= with_prefix(name, updated)
        candidates = embeddings["candidate"].reshape(*x.shape[:-2], rows, count, -1)
        scores = (candidates * embeddings["query"].unsqueeze(-2)).sum(-1)
        return {HIDDEN: scores, OBJECTIVE: scores}, after
