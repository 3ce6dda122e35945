"""Couplings: how gradients cross a channel, one class each; a user's own coupling is one more class
(`antiphon.coupling`).

A scenario names a coupling, and the builder puts one object of its class into the channel (`ChannelSpec.coupling`,
`Channel.coupling`). Three methods are called in training, with the messages and times of engine/heart:

    read_kind   at each read of a receiver's tick: is the message differentiated through its sender, counted, or a constant?
    credit      when the sender's window is learned from: the gradient that is injected into a message
    waits_for   when the sender's window has ended, if the coupling `waits`: does the window wait for the gradient of a message?
                engine/heart/step.py calls it

Scenarios, checks and the engine read what a coupling declares by its six class attributes. No other file compares the name of a
coupling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from antiphon.base import extensions

if TYPE_CHECKING:
    import torch

    from antiphon.nets import mask as masks


@dataclass(frozen=True, slots=True)
class CreditedMessage:
    """A message of the window that its sender learns from; tensors are [rows, size] without a graph, gradients per sample.

    A row is one environment of a channel. A gradient per sample is B times the gradient of the receivers' mean loss.
    """

    sent: torch.Tensor
    """The message as it was sent."""
    stamp: int
    """The step at which it was sent; the `step` of `credit` less the stamp is its age."""
    tick_period: int
    """Steps between ticks of the sender: an age divided by it is an age in ticks."""
    returned_gradient: torch.Tensor | None
    """The returned gradient, if it is back over the link; None: it is not, or none returns. What is booked at this step is
    never in it."""
    counted: masks.Mask
    """The rows where a read of it counted; `NONE` if `returned_gradient` is None. In other rows the returned gradient is zero:
    the message was lost, or void as it was read, or the receiver does not learn."""
    output: torch.Tensor
    """The message as the window has it, [rows, …] with its graph."""
    predict_applied: Callable[[], torch.Tensor | None]
    """Returns the applied prediction, which is evaluated only where a coupling reads it."""

    @property
    def now(self) -> torch.Tensor:
        """The message as the sender's present parameters make it.

        It is `sent`, unless the window has waited, and has been replayed with parameters that have moved. In rows in
        which the message was void as it was sent, `sent` is zeros, and this is not.
        """
        # commands that only list couplings load no torch
        from antiphon.comms.backward_requests import value_of

        return value_of(self.output)

    @property
    def applied_prediction(self) -> torch.Tensor | None:
        """The synthetic gradient, as far as the channel's gate is open.

        None: there is none, it is not applied (`apply`), its gate is shut, or its target or a signal of its context is
        absent.
        """
        return self.predict_applied()


class ReadKind(Enum):
    """How a receiver differentiates a message that it reads."""

    WITH_GRAPH = "with graph"
    """Through its sender, with the graph of the window: the message was sent in the same window, and both endpoints
    learn as one."""
    COUNTED = "counted"
    """As far as the message: the read counts for it. If the coupling or a predictor uses gradients, it is a leaf of
    autograd, whose gradient is booked for the sender."""
    CONSTANT = "constant"
    """Not at all: the message is a constant."""


class Coupling:
    """How gradients cross a channel; the base class lets none cross between windows.

    A coupling keeps no state, and a row of its credit is a function of the same row of the message alone: of a stack it is called
    for the rows of many channels at once.
    """

    name: str = ""
    """The name in scenarios."""
    predicts: ClassVar[bool] = False
    """Whether the channel has a synthetic gradient, and may have a synthetic input."""
    joins_endpoints: ClassVar[bool] = False
    """Whether both endpoints learn as one network, by backpropagation through the messages of a window."""
    uses_returned: ClassVar[bool] = False
    """Whether `credit` uses `CreditedMessage.returned_gradient`: receivers then return gradients even where no predictor learns from
    them."""
    waits: ClassVar[bool] = False
    """Whether the sender's window waits for the gradients of its messages, until they are back or `horizon` further windows of the sender
    have ended (engine/heart/step.py). It is then replayed and learned from as a whole (docs/semantics.md, rule 27b)."""
    replaces_messages: ClassVar[bool] = False
    """Whether the receiver reads the synthetic input in place of every message."""
    allows_states: ClassVar[bool] = False
    """Whether a state channel may have it."""
    options_key: str = "{}"
    """Its options, as a text: couplings of one class, name and options compute alike."""

    @property
    def gives_credit(self) -> bool:
        """Whether its class has a `credit` other than this one, which gives none."""
        return type(self).credit is not Coupling.credit

    def read_kind(self, *, same_window: bool, is_state: bool) -> ReadKind:
        """Return how a receiver differentiates a message that it reads.

        Args:
            same_window: Whether the message was sent in the same window, by an agent of the same learning group.
            is_state: Whether the message is an agent's state.
        """
        return ReadKind.WITH_GRAPH if is_state and same_window else ReadKind.COUNTED

    def credit(self, message: CreditedMessage, step: int) -> torch.Tensor | None:
        """Return the gradient that the sender learns from for a message, [rows, size] per sample; None: nothing is
        injected.

        Where the coupling predicts, `gradient.scale` and `gradient.discount` apply to it.

        It is called as the sender's window is differentiated: once the step's episodes have ended, and before what this
        step books is back; with `training.sweep` at the window's last tick, where no end can change the credit. Of a
        stack of channels it is called up to four times for a message: for the channels with a returned gradient and for
        the others, of open gates and of shut ones; of each answer the rows of these channels count. It is not called
        for a message that no tick reads, that became void everywhere before one did, or from whose window its sender
        does not learn. Where the window has given up what returns over the channel (`horizon`), there is no returned
        gradient.

        Args:
            message: One of the window that is learned from.
            step: The step just taken, or with `training.sweep` the present one, from 0.
        """
        return None

    def waits_for(self, stamp: int, step: int) -> bool:
        """Return whether a window waits for the gradient of a message, while that is not back; read only where the
        coupling `waits`.

        Args:
            stamp: The step at which the message was sent.
            step: The step at which a window of the sender ends, this one or a later one: the window is learned from
                then, if it waits for none.
        """
        return True


@extensions.coupling("locked")
class Locked(Coupling):
    """The true gradient within the common window: both endpoints learn as one network."""

    name = "locked"
    joins_endpoints = True
    allows_states = True

    def read_kind(self, *, same_window: bool, is_state: bool) -> ReadKind:
        """Return the graph; a message of an earlier window is a constant, where its credit is lost."""
        return ReadKind.WITH_GRAPH if same_window else ReadKind.CONSTANT


@extensions.coupling("delayed")
class Delayed(Coupling):
    """The true gradient when it has returned; the message's window is then replayed and learned."""

    name = "delayed"
    uses_returned = True
    waits = True

    def credit(self, message: CreditedMessage, step: int) -> torch.Tensor | None:
        return message.returned_gradient


@extensions.coupling("detached")
class Detached(Coupling):
    """No gradient crosses the channel; within a window a state keeps its graph, and its agent learns through it.

    Reads of messages count all the same, without a gradient: a message shows whether it was used.
    """

    name = "detached"
    allows_states = True


@extensions.coupling("decoupled")
class Decoupled(Coupling):
    """A synthetic gradient, immediately; a synthetic input may replace missing messages."""

    name = "decoupled"
    predicts = True
    allows_states = True

    def credit(self, message: CreditedMessage, step: int) -> torch.Tensor | None:
        return message.applied_prediction


@extensions.coupling("unlocked")
class Unlocked(Decoupled):
    """A synthetic gradient, immediately; the receiver reads the synthetic input in place of every message."""

    name = "unlocked"
    replaces_messages = True
    allows_states = False


COUPLINGS = {kind.name: kind() for kind in (Locked, Delayed, Detached, Decoupled, Unlocked)}
"""The built-in couplings, by name."""
DEFAULT = Decoupled.name
"""The coupling of a channel that names none."""


def kind_predicts(coupling: object) -> bool:
    """Return whether a coupling in a scenario file (a name, a class, or a mapping with a `kind`) has a synthetic gradient."""
    kind = coupling.get("kind", DEFAULT) if isinstance(coupling, Mapping) else coupling
    named = extensions.Catalogue("coupling").get(kind) if isinstance(kind, str) else kind
    return bool(getattr(named, "predicts", False))
