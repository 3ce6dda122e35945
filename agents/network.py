"""Network interface: a function of (parameters, buffers, input) with named output ports.

Networks hold no parameters; their callers do (one agent at a time, or many stacked).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Literal, Required, TypedDict, Unpack, final

import torch
from torch import Tensor

from antiphon.base import kinds
from antiphon.base.spec import Counts

Tensors = dict[str, Tensor]
OBJECTIVE = "objective"
VALUE = "value"
"""The port of an agent's value: its expected future reward, [B, 1]."""
HIDDEN = "hidden"
STATE = "state"
"""The port of a recurrent network's next state."""
AUXILIARY_PORT = "future"
"""The head of a recurrent network that predicts the gradient at the end of its window (auxiliary task)."""


@dataclass(frozen=True, slots=True)
class Head:
    """A named output of a network: a linear map of its last hidden activation, then a normalisation."""

    name: str
    size: tuple[int, ...]
    """`(components,)`, or the axes of a message with several, such as `(channels, height, width)`."""
    norm: str = "none"

    @property
    def features(self) -> int:
        return features_of(self.size)

    def shaped(self, flat: Tensor) -> Tensor:
        """Return values [..., features] in the shape of the output, [..., *size]."""
        return flat if len(self.size) == 1 else flat.reshape(*flat.shape[:-1], *self.size)


def unnamed(heads: Iterable[Head]) -> tuple[Head, ...]:
    """Return heads with empty port names, for signatures that do not depend on the graph."""
    return tuple(
        head if head.name in (OBJECTIVE, VALUE, AUXILIARY_PORT) else replace(head, name="") for head in heads
    )


def features_of(shape: tuple[int, ...]) -> int:
    """Return the number of components of one sample of `shape`."""
    return int(torch.Size(shape).numel())


def sub(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """Return the entries under `prefix.`, without the prefix."""
    start = len(prefix) + 1
    return {name[start:]: value for name, value in tensors.items() if name.startswith(prefix + ".")}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return `tensors` with `prefix.` before every name."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


class CallSettings(TypedDict, total=False):
    """Settings of a call of a network."""

    training: Required[bool]
    """Whether batch statistics are used and updated."""
    seed: int
    """Seed of the random numbers of a user's module at this tick; 0 if it is left out."""
    state: Tensor | None
    """[B, state_size], the port `STATE` of the previous tick, for networks with a state; None: zeros."""
    without: Collection[str]


class HiddenOptions(kinds.Options):
    """Hidden layers of a network.

    Attributes:
        hidden: Widths of the hidden layers, or numbers of filters (`conv`); in recurrent kinds the layers before the cell.
        norm: Normalisation after every hidden layer; None: batch if the agent ticks once per example, else layer.
        activation: Activation after every norm; `identity` makes the network linear.
    """

    hidden: Counts = (128,)
    norm: Literal["batch", "layer", "none"] | None = None
    activation: Literal["relu", "tanh", "gelu", "identity"] = "relu"

    written: ClassVar[frozenset[str]] = frozenset({"hidden", "size"})

    def input_shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return the shape of one sample of the input, joined of what is observed and received: a vector."""
        return (sum(prod(shape) for shape in shapes),)

    def hidden_shape(
        self, inputs: tuple[int, ...] | None, candidates: Callable[[], tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        """Return the shape of one sample of the last hidden activation; None: the inputs decide it, and are not known."""
        return self.hidden[-1:] or inputs


ChannelAxis = Literal["first", "last"] | None


@dataclass(frozen=True, slots=True)
class Described:
    """What a scenario says of a network of a built-in kind."""

    kind: str
    options: Mapping[str, Any]
    """The kind's own keys, with a `norm`."""
    inputs: tuple[int, ...]
    heads: tuple[Head, ...] = ()
    candidates: Callable[[], tuple[int, ...]] = tuple
    """Returns the shape of the agent's first observation, [candidates, …]."""
    observed: tuple[tuple[tuple[int, ...], str], ...] = ()
    """Of a kind that sees images: the shape of each observation, and its layout if it is one (see `as_maps`)."""

    def flattened(self) -> Described:
        """Return it with inputs of one axis."""
        return replace(self, inputs=(features_of(self.inputs),))


class Network(ABC):
    """A function from one input tensor, and a state if it has one, to named ports.

    Attributes:
        input_shape: Shape of one sample; inputs are [B, *input_shape].
        heads: The heads by name, in canonical order.
        state_size: Components of the state passed from tick to tick; 0: a network without state.
        pure: Whether the network is a function of its arguments alone (built-in kinds); a user's module may sample.
        user_prefixes: Beginnings of the names of parameters that a user's module has.
    """

    Options: ClassVar[type[kinds.Options]] = kinds.Options
    returns_loss: ClassVar[bool] = False
    """Whether the network returns a loss of its own, its agent's only objective (built-in kinds)."""
    recurrent: ClassVar[bool] = False
    """Whether a state is carried to the next tick (built-in kinds)."""
    on_maps: ClassVar[bool] = False
    """Whether it reads maps, [channels, height, width] (built-in kinds)."""
    sees_images: ClassVar[bool] = False
    """Whether it finds the images among flat inputs (built-in kinds)."""
    may_be_critic: ClassVar[bool] = False

    pure = True
    state_size: int = 0
    user_prefixes: tuple[str, ...] = ()

    def __init__(self, input_shape: tuple[int, ...], heads: tuple[Head, ...]) -> None:
        self.input_shape = input_shape
        self.heads = {head.name: head for head in heads}

    @abstractmethod
    def parameters(self, generator: torch.Generator) -> Tensors:
        """Sample initial parameters (float32), by name."""

    @abstractmethod
    def buffers(self) -> Tensors:
        """Return initial running statistics (float32), by name."""

    @abstractmethod
    def __call__(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        """Return the ports, [B, *size] each, and the new buffers; nothing is changed in place.

        N networks of one signature without a `stacking_obstacle` are one call: then parameters and buffers are stacked
        [N, …], the input is [N, B, *input_shape], the state [N, B, state_size], and the ports are [N, B, *size].
        """

    def on_rows(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        member_count: int,
        **settings: Unpack[CallSettings],
    ) -> tuple[Tensors, Tensors]:
        """Return the ports, [rows, *size] each, and the new buffers of N = `member_count` networks, or of a single one if 0.

        Args:
            parameters: Of several networks stacked, [N, …]; so are the buffers.
            x: [rows, *input_shape]; rows of several networks are (member, environment), [N * B].
            settings: See `CallSettings`, with the state [rows, state_size].
        """
        if not member_count:
            return self(parameters, buffers, x, **settings)
        lead, state = (member_count, len(x) // member_count), settings.get("state")
        if state is not None:
            settings["state"] = state.view(*lead, -1)
        ports, after = self(parameters, buffers, x.view(*lead, *x.shape[1:]), **settings)
        return {name: port.flatten(0, 1) for name, port in ports.items()}, after

    @property
    def linear_heads(self) -> Mapping[str, Head]:
        """The heads that are linear maps of the port `HIDDEN`: a call leaves out those `without`, and `from_hidden` evaluates them."""
        return {}

    def from_hidden(
        self, parameters: Tensors, buffers: Tensors, hidden: Tensor, heads: Collection[str], *, training: bool
    ) -> Tensors:
        """Return some linear heads of the last hidden activation, [B, *size] each, or of stacked networks [N, B, *size]."""
        assert not heads
        return {}

    @abstractmethod
    def port_shape(self, port: str) -> tuple[int, ...]:
        """Return the shape of one sample of a port; KeyError if there is no such port."""

    @abstractmethod
    def signature(self) -> Hashable:
        """Return a key of the function of (parameters, buffers, x) that the network computes.

        Networks with equal signatures are the same function, with the same heads in the same order, whatever the names of
        the ports; if that cannot be decided (a user's module), a signature equals only itself.
        """

    def row_split_obstacle(self) -> str | None:
        """Return why its rows cannot be evaluated apart, or with those of other ticks, in one line; None if they can."""
        return None

    def stacking_obstacle(self) -> str | None:
        """Return why the network cannot be called with stacked parameters, in one line; None if it can."""
        return None


NEVER = -1e9
"""The logit of a choice that is not legal; finite, so that entropies and their gradients are."""


@final
class Masked(Network):
    """A network of flat inputs whose choices are legal where the mask among its inputs is positive.

    Where no choice is legal, as for an agent that does not live, all are alike.

    Args:
        inner: The network; it reads the mask too.
        start: The place of the mask among the inputs; it has a number for each output of the objective.
    """

    def __init__(self, inner: Network, start: int) -> None:
        super().__init__(inner.input_shape, tuple(inner.heads.values()))
        self.inner = inner
        self.pure, self.state_size, self.user_prefixes = inner.pure, inner.state_size, inner.user_prefixes
        self.mask = slice(start, start + inner.heads[OBJECTIVE].features)

    def parameters(self, generator: torch.Generator) -> Tensors:
        return self.inner.parameters(generator)

    def buffers(self) -> Tensors:
        return self.inner.buffers()

    def port_shape(self, port: str) -> tuple[int, ...]:
        return self.inner.port_shape(port)

    def row_split_obstacle(self) -> str | None:
        return self.inner.row_split_obstacle()

    def stacking_obstacle(self) -> str | None:
        return self.inner.stacking_obstacle()

    def __call__(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        ports, after = self.inner(parameters, buffers, x, **settings)
        logits = ports[OBJECTIVE]
        legal = x[..., self.mask] > 0
        return {**ports, OBJECTIVE: torch.where(legal, logits, torch.full_like(logits, NEVER))}, after

    def signature(self) -> Hashable:
        return Masked, self.mask.start, self.inner.signature()
