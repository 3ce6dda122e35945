"""What every network is: a function of (parameters, buffers, input) with named output ports.

Networks hold no parameters. Whoever runs them (one agent at a time, or many stacked) owns the numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from antiphon.nets import random
from antiphon.nets.layers import (
    initial_linear,
    initial_norm,
    linear,
    norm_buffers,
    normalise,
    with_feedback,
)

__all__ = [
    "HIDDEN",
    "OBJECTIVE",
    "Head",
    "Network",
    "Tensors",
    "Transport",
    "features_of",
    "norm_module",
    "sub",
    "with_prefix",
]

Tensors = dict[str, Tensor]

OBJECTIVE = "objective"
"""The port an agent's objective reads."""
HIDDEN = "hidden"
"""The port that carries the last hidden activation."""


@dataclass(frozen=True, slots=True)
class Head:
    """A named output of a network: a linear map of its last hidden activation, then a normalisation."""

    name: str
    size: tuple[int, ...]
    """`(components,)`, or `(channels, height, width)` for a feature map."""
    norm: str = "none"

    @property
    def features(self) -> int:
        """Components per sample."""
        return features_of(self.size)


@dataclass(frozen=True, slots=True)
class Transport:
    """The way back of one message by feedback alignment: through fixed weights instead of the network's own.

    The message is in the network's input too, cut: nothing flows back there.
    """

    message: Tensor
    """[rows, size], flat, with its sender's graph."""
    weights: Tensors
    """As `Network.feedback_weights` drew them."""
    rows: slice | None = None
    """The rows of the input that hold the message, where tied agents are evaluated as one batch; None: all."""


def features_of(shape: tuple[int, ...]) -> int:
    """Return the number of components of one sample of `shape`."""
    return int(torch.Size(shape).numel())


def sub(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """Return the entries under `prefix.`, with the prefix taken off."""
    start = len(prefix) + 1
    return {name[start:]: value for name, value in tensors.items() if name.startswith(prefix + ".")}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return `tensors` with `prefix.` put before every name."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


class Network(ABC):
    """A function from one input tensor to named ports.

    Attributes:
        input_shape: Shape of one sample; inputs arrive as [B, *input_shape].
        heads: The heads by name, in canonical order.
        pure: Whether the network is a function of its arguments alone (built-in kinds), so that backends may
            be held equal on it; a user's module may draw random numbers of its own.
    """

    pure = True

    def __init__(self, input_shape: tuple[int, ...], heads: tuple[Head, ...]) -> None:
        self.input_shape = input_shape
        self.heads = {head.name: head for head in heads}

    @abstractmethod
    def parameters(self, generator: torch.Generator) -> Tensors:
        """Draw initial parameters (float32), by name."""

    @abstractmethod
    def buffers(self) -> Tensors:
        """Return initial running statistics (float32), by name."""

    @abstractmethod
    def feedback_weights(self, message: tuple[int, ...], generator: torch.Generator) -> Tensors:
        """Draw fixed weights (float32) through which the gradient returns to a message, as initial weights are drawn.

        Args:
            message: Shape of one sample of the message.
            generator: Draws them.

        Returns:
            For each linear map that reads the input, by the name of its weight, the columns of its replacement
            that meet the message: [outputs, size], or [filters, channels, side, side] for a convolution.

        Raises:
            ScenarioError: The network is a user's module, of which no first layer is known.
        """

    @abstractmethod
    def __call__(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        *,
        training: bool,
        seed: int = 0,
        transports: Sequence[Transport] = (),
    ) -> tuple[Tensors, Tensors]:
        """Return the ports, [B, *size] each, and the new buffers; nothing is changed in place.

        Args:
            parameters: By name, as `parameters` drew them.
            buffers: By name.
            x: [B, *input_shape].
            training: Whether batch statistics are used and moved.
            seed: Of the random numbers a user's module may draw at this tick.
            transports: Messages whose gradient returns through fixed weights.
        """

    @abstractmethod
    def port_shape(self, port: str) -> tuple[int, ...]:
        """Return the shape of one sample of a port; KeyError if there is none."""

    @abstractmethod
    def emit(self, root: nn.Module, name: str, parameters: Tensors, buffers: Tensors) -> Emitter:
        """Add plain torch modules holding copies of the numbers to `root` and return how to call them."""


class Emitter(ABC):
    """Writes the calls of one network into a torch.fx graph, any number of times."""

    @abstractmethod
    def __call__(self, graph: fx.Graph, x: fx.Node) -> dict[str, fx.Node]:
        """Append the network's evaluation of `x` ([B, *input_shape]) and return its ports."""


class HeadedNetwork(Network):
    """A trunk, then heads: what the built-in kinds share."""

    @abstractmethod
    def trunk_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the last hidden activation (of the input, where there is no hidden layer)."""

    @abstractmethod
    def layer_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape [outputs, inputs, …] of each hidden layer's weight."""

    @abstractmethod
    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        """Draw the trunk's parameters."""

    @abstractmethod
    def trunk_buffers(self) -> Tensors:
        """Return the trunk's initial buffers."""

    @abstractmethod
    def trunk(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        *,
        training: bool,
        transports: Sequence[Transport],
    ) -> tuple[Tensor, Tensors]:
        """Return the last hidden activation and the trunk's new buffers."""

    @abstractmethod
    def trunk_modules(self, parameters: Tensors, buffers: Tensors) -> nn.Sequential:
        """Return the trunk as plain torch modules."""

    def parameters(self, generator: torch.Generator) -> Tensors:
        drawn = self.trunk_parameters(generator)
        inputs = features_of(self.trunk_shape())
        for head in self.heads.values():  # each from a seed of its own name: another changes nothing here
            own = random.generator(generator.initial_seed(), head.name)
            weight, bias = initial_linear(inputs, (head.features, inputs), own)
            drawn |= {f"{head.name}.weight": weight, f"{head.name}.bias": bias}
            drawn |= with_prefix(f"{head.name}.norm", initial_norm(head.norm, head.features))
        return drawn

    def buffers(self) -> Tensors:
        held = self.trunk_buffers()
        for head in self.heads.values():
            held |= with_prefix(f"{head.name}.norm", norm_buffers(head.norm, head.features))
        return held

    def feedback_weights(self, message: tuple[int, ...], generator: torch.Generator) -> Tensors:
        layers = self.layer_shapes()
        inputs = features_of(self.input_shape)
        readers = {head.name: (head.features, inputs) for head in self.heads.values()}
        size = message[0] if len(self.input_shape) > 1 else features_of(message)
        drawn: Tensors = {}
        for name, shape in ({"0": layers[0]} if layers else readers).items():
            own = random.generator(generator.initial_seed(), name)
            weight, _ = initial_linear(features_of(shape[1:]), (shape[0], size, *shape[2:]), own)
            drawn[f"{name}.weight"] = weight
        return drawn

    def __call__(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        *,
        training: bool,
        seed: int = 0,
        transports: Sequence[Transport] = (),
    ) -> tuple[Tensors, Tensors]:
        hidden, after = self.trunk(parameters, buffers, x, training=training, transports=transports)
        ports = {HIDDEN: hidden}
        flat = hidden
        if len(self.trunk_shape()) > 1:
            flat = hidden.flatten(-len(self.trunk_shape()))
        for name, head in self.heads.items():
            y = linear(flat, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
            y = transported(y, f"{name}.weight", transports)
            if head.norm != "none":
                key = f"{name}.norm"
                y, moved = normalise(head.norm, y, sub(parameters, key), sub(buffers, key), training=training)
                after |= with_prefix(key, moved)
            ports[name] = y if len(head.size) == 1 else y.reshape(*y.shape[:-1], *head.size)
        return ports, after

    def port_shape(self, port: str) -> tuple[int, ...]:
        return self.trunk_shape() if port == HIDDEN else self.heads[port].size

    def emit(self, root: nn.Module, name: str, parameters: Tensors, buffers: Tensors) -> Emitter:
        root.add_module(name, nn.Module())
        place = root.get_submodule(name)
        place.add_module("trunk", self.trunk_modules(parameters, buffers))
        for head in self.heads.values():
            layers: list[nn.Module] = [nn.Flatten(1)] if len(self.trunk_shape()) > 1 else []
            layers.append(linear_module(parameters[f"{head.name}.weight"], parameters[f"{head.name}.bias"]))
            if head.norm != "none":
                key = f"{head.name}.norm"
                layers.append(
                    norm_module(head.norm, (head.features,), sub(parameters, key), sub(buffers, key))
                )
            if len(head.size) > 1:
                layers.append(nn.Unflatten(1, head.size))
            place.add_module(f"head_{head.name}", nn.Sequential(*layers))
        return _HeadedEmitter(name, tuple(self.heads))


class _HeadedEmitter(Emitter):
    def __init__(self, name: str, heads: tuple[str, ...]) -> None:
        self._name = name
        self._heads = heads

    def __call__(self, graph: fx.Graph, x: fx.Node) -> dict[str, fx.Node]:
        hidden = graph.call_module(f"{self._name}.trunk", (x,))
        ports = {HIDDEN: hidden}
        for head in self._heads:
            ports[head] = graph.call_module(f"{self._name}.head_{head}", (hidden,))
        return ports


def transported(y: Tensor, weight: str, transports: Sequence[Transport]) -> Tensor:
    """Return what a layer gave, joined on the way back to the messages that have a replacement for its `weight`."""
    for transport in transports:
        if weight in transport.weights:
            y = with_feedback(y, transport.message, transport.weights[weight], transport.rows)
    return y


def initial_layers(shapes: Sequence[tuple[int, ...]], norm: str, generator: torch.Generator) -> Tensors:
    """Draw the parameters of hidden layers, given the shape [outputs, inputs, …] of each layer's weight."""
    drawn: Tensors = {}
    for i, shape in enumerate(shapes):
        weight, bias = initial_linear(features_of(shape[1:]), shape, generator)
        drawn |= {f"{i}.weight": weight, f"{i}.bias": bias}
        drawn |= with_prefix(f"{i}.norm", initial_norm(norm, shape[0]))
    return drawn


def layer_buffers(widths: Sequence[int], norm: str) -> Tensors:
    """Return the running statistics of hidden layers of so many features each."""
    held: Tensors = {}
    for i, width in enumerate(widths):
        held |= with_prefix(f"{i}.norm", norm_buffers(norm, width))
    return held


def linear_module(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return torch's linear layer holding copies of a weight [O, I] and a bias [O]."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def norm_module(kind: str, shape: tuple[int, ...], parameters: Tensors, buffers: Tensors) -> nn.Module:
    """Return torch's layer for a normalisation over samples of `shape`, holding copies of the numbers."""
    gain, bias = parameters["gain"], parameters["bias"]
    if kind == "layer":
        full = [t.view(-1, *([1] * (len(shape) - 1))).expand(shape) for t in (gain, bias)]
        norm: nn.Module = nn.LayerNorm(shape, device=gain.device, dtype=gain.dtype)
        norm.load_state_dict({"weight": full[0], "bias": full[1]})
        return norm
    kinds = {1: nn.BatchNorm1d, 3: nn.BatchNorm2d}
    norm = kinds[len(shape)](shape[0], device=gain.device, dtype=gain.dtype)
    count = torch.zeros((), dtype=torch.int64)
    norm.load_state_dict(
        {
            "weight": gain,
            "bias": bias,
            "running_mean": buffers["mean"],
            "running_var": buffers["var"],
            "num_batches_tracked": count,
        }
    )
    return norm
