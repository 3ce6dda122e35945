"""What every network is: a function of (parameters, buffers, input) with named output ports.

Networks hold no parameters. Whoever runs them (one agent at a time, or many stacked) owns the numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

__all__ = [
    "AUXILIARY_PORT",
    "HIDDEN",
    "OBJECTIVE",
    "STATE",
    "Emitter",
    "Head",
    "Network",
    "Tensors",
    "Transport",
    "features_of",
    "sub",
    "unnamed",
    "with_prefix",
]

Tensors = dict[str, Tensor]

OBJECTIVE = "objective"
"""The port an agent's objective reads."""
HIDDEN = "hidden"
"""The port that carries the last hidden activation."""
STATE = "state"
"""The port that carries what a recurrent network hands to its next tick."""
AUXILIARY_PORT = "future"
"""The head of a recurrent network that foretells the gradient at the end of its window (the auxiliary task)."""


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


def unnamed(heads: Iterable[Head]) -> tuple[Head, ...]:
    """Return heads without names that only say where they lead: in one place they are the same head."""
    return tuple(
        head if head.name in (OBJECTIVE, AUXILIARY_PORT) else replace(head, name="") for head in heads
    )


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
    """A function from one input tensor, and the state where it has one, to named ports.

    Attributes:
        input_shape: Shape of one sample; inputs arrive as [B, *input_shape].
        heads: The heads by name, in canonical order.
        state_size: Components of the state handed from tick to tick; 0: the network remembers nothing.
        pure: Whether the network is a function of its arguments alone (built-in kinds), so that backends may
            be held equal on it; a user's module may draw random numbers of its own.
    """

    pure = True
    state_size: int = 0

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
        state: Tensor | None = None,
    ) -> tuple[Tensors, Tensors]:
        """Return the ports, [B, *size] each, and the new buffers; nothing is changed in place.

        N networks of one signature that are `stackable` are one call: then parameters and buffers are stacked
        [N, …], the input is [N, B, *input_shape], the state [N, B, state_size], and the ports are [N, B, *size].

        Args:
            parameters: By name, as `parameters` drew them.
            buffers: By name.
            x: [B, *input_shape].
            training: Whether batch statistics are used and moved.
            seed: Of the random numbers a user's module may draw at this tick.
            transports: Messages whose gradient returns through fixed weights; of single networks only.
            state: [B, state_size], the port `STATE` of the tick before, for networks that have one; None: zeros.
        """

    @abstractmethod
    def port_shape(self, port: str) -> tuple[int, ...]:
        """Return the shape of one sample of a port; KeyError if there is none."""

    @abstractmethod
    def signature(self) -> Hashable:
        """Return what makes it the function of (parameters, buffers, x) that it is.

        Networks of equal signatures are the same function, with the same heads in the same order, whatever the ports
        are called; where that cannot be known (a user's module), a signature equals only itself.
        """

    def stackable(self) -> str | None:
        """Return why it cannot be called with stacked numbers, in one line; None: it can."""
        return None

    @abstractmethod
    def emit(self, root: nn.Module, name: str, parameters: Tensors, buffers: Tensors) -> Emitter:
        """Add plain torch modules holding copies of the numbers to `root` and return how to call them."""


class Emitter(ABC):
    """Writes the calls of one network into a torch.fx graph, any number of times."""

    @abstractmethod
    def __call__(self, graph: fx.Graph, x: fx.Node, state: fx.Node | None = None) -> dict[str, fx.Node]:
        """Append the network's evaluation of `x` ([B, *input_shape]) and return its ports.

        Args:
            graph: Is appended to.
            x: The input.
            state: [B, state_size], the port `STATE` of the evaluation before; None: zeros.
        """
