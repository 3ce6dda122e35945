"""Couplings: how gradients cross a channel, one class each; a user's own coupling is one more class
(`antiphon.coupling`).

A scenario names a coupling, and the builder puts one object of its class into the channel (`ChannelSpec.coupling`,
`Channel.coupling`). Three methods are called in training, with the messages and times of engine/heart:

    read_kind   at each read of a receiver's tick: is the message differentiated through its sender, counted, or a constant?
    credit      when the sender's window is learned from: the gradient that is injected into a message
    waits_for   when the sender's window has ended, if the coupling `waits`: does the window wait for the gradient of a message?
                engine/heart/late_windows.py calls it

What a coupling declares by its class attributes, and what scenarios, checks, advice, `show` and telemetry make of that,
is in its base class (declared_coupling.py). No other file compares the name of a coupling.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from antiphon.base import extensions
from antiphon.base.deferred import Deferred
from antiphon.base.errors import ScenarioError
from antiphon.comms.coupling_attributes import check_attributes
from antiphon.comms.declared_channel import DeclaredChannel
from antiphon.comms.declared_coupling import DeclaredCoupling

if TYPE_CHECKING:
    import torch

    from antiphon.base import mask as masks
else:
    torch, masks = Deferred("torch"), Deferred("antiphon.base.mask")


class CreditedMessage:
    """A message of the window that its sender learns from; tensors are [rows, size] without a graph, gradients per
    sample.

    A row is one environment of a channel. A gradient per sample is B times the gradient of the receivers' mean loss.

    Args:
        sent, stamp, tick_period, returned_gradient, counted: See the attributes.
        output: The message as the window has it, [rows, …] with its graph.
        predict_applied: Returns the applied prediction, which is evaluated only where a coupling reads it.

    Attributes:
        sent: The message as it was sent.
        stamp: The step at which it was sent; the `step` of `credit` less the stamp is its age.
        tick_period: Steps between ticks of the sender: an age divided by it is an age in ticks.
        returned_gradient: The returned gradient, if it is back over the link; None: it is not, or none returns. What is
            booked at this step is never in it.
        counted: The rows where a read of it counted; `NONE` if `returned_gradient` is None. In other rows the returned
            gradient is zero: the message was lost, or void as it was read, or the receiver does not learn.
    """

    __slots__ = (
        "_output",
        "_predict_applied",
        "counted",
        "returned_gradient",
        "sent",
        "stamp",
        "tick_period",
    )

    def __init__(
        self,
        sent: torch.Tensor,
        stamp: int,
        tick_period: int,
        returned_gradient: torch.Tensor | None,
        counted: masks.Mask,
        output: torch.Tensor,
        predict_applied: Callable[[], torch.Tensor | None],
    ) -> None:
        self.sent, self.stamp, self.tick_period = sent, stamp, tick_period
        self.returned_gradient, self.counted = returned_gradient, counted
        self._output, self._predict_applied = output, predict_applied

    def copied(self) -> CreditedMessage:
        """Return the same message with tensors of its own, which may be changed in place."""

        def predict_applied() -> torch.Tensor | None:
            prediction = self._predict_applied()
            return None if prediction is None else prediction.clone()

        returned = None if self.returned_gradient is None else self.returned_gradient.clone()
        return CreditedMessage(
            self.sent.clone(),
            self.stamp,
            self.tick_period,
            returned,
            self.counted,
            self._output.detach().clone(),
            predict_applied,
        )

    @property
    def now(self) -> torch.Tensor:
        """The message as the sender's present parameters make it.

        It is `sent`, unless the window has waited, and has been replayed with parameters that have moved. In rows in
        which the message was void as it was sent, `sent` is zeros, and this is not.
        """
        # commands that only list couplings load no torch
        from antiphon.comms.backward_requests import value_of

        return value_of(self._output)

    @property
    def applied_prediction(self) -> torch.Tensor | None:
        """The synthetic gradient, as far as the channel's gate is open.

        None: there is none, it is not applied (`apply`), its gate is shut, or its target or a signal of its context is
        absent.
        """
        return self._predict_applied()


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


class Coupling(DeclaredCoupling):
    """How gradients cross a channel; the base class lets none cross between windows.

    A coupling keeps no state: channels share one object of antiphon's own classes, and each has one of a user's.
    """

    def __init_subclass__(cls) -> None:
        """Refuse attributes of the class that would have no effect or cannot be called (coupling_attributes.py)."""
        super().__init_subclass__()
        check_attributes(cls, Coupling)

    def read_kind(self, *, same_window: bool, is_state: bool) -> ReadKind:
        """Return how a receiver differentiates a message that it reads.

        Args:
            same_window: Whether the message was sent in the same window, by an agent of the same learning group.
            is_state: Whether the message is an agent's state.
        """
        return ReadKind.WITH_GRAPH if is_state and same_window else ReadKind.COUNTED

    @property
    def is_users(self) -> bool:
        """Whether its class is a user's."""
        return extensions.is_users(type(self))

    @property
    def has_users_credit(self) -> bool:
        """Whether `credit` is called, and a user's; a class of a user's may have one of antiphon's."""
        return self.gives_credit and extensions.is_users(self.credit)

    @property
    def gives_credit(self) -> bool:
        """Whether `credit` may give a gradient: it, its class, or one that this is derived from, has a `credit` other
        than this one."""
        return getattr(self.credit, "__func__", None) is not Coupling.credit

    def credits_without_returns(self, channel: DeclaredChannel) -> bool:
        """See `DeclaredCoupling`; a `credit` that uses neither returned gradients nor a prediction also needs none."""
        is_of_message = self.gives_credit and not self.can_credit_sender and not self.never_read(channel)
        return is_of_message or super().credits_without_returns(channel)

    def credit(self, message: CreditedMessage, step: int) -> torch.Tensor | None:
        """Return the gradient that the sender learns from for a message, [rows, size] per sample; None: nothing is
        injected.

        Where the coupling predicts, `gradient.clip`, `gradient.scale` and `gradient.discount` apply to it.

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
                then, if it waits for none. Timelines and warnings ask of steps to come.
        """
        return True

    def has_to_wait(self, stamp: int, step: int) -> bool:
        """Return what `waits_for` returns, as True or False.

        Raises:
            ScenarioError: It is neither, nor a number that stands for one.
        """
        answer = self.waits_for(stamp, step)
        if isinstance(answer, bool):
            return answer
        with suppress(Exception):  # of a tensor with several components
            if answer is not None and not isinstance(answer, str):
                return bool(answer)
        shape = f" of shape {list(answer.shape)}" if hasattr(answer, "shape") else ""
        shown = "None" if answer is None else f"{type(answer).__name__}{shape}"
        raise ScenarioError(
            f"{type(self).__name__}.waits_for returns {shown}; return True or False, for the whole channel"
        )


COUPLINGS: dict[str, Coupling] = {}
"""The built-in couplings, by name."""
CouplingClass = TypeVar("CouplingClass", bound=type[Coupling])


def _built_in(name: str) -> Callable[[CouplingClass], CouplingClass]:
    """Decorator: register a built-in coupling, and enter it in `COUPLINGS`."""

    def add(coupling_class: CouplingClass) -> CouplingClass:
        coupling_class.name = name
        COUPLINGS[name] = coupling_class()
        return extensions.coupling(name)(coupling_class)

    return add


@_built_in("locked")
class Locked(Coupling):
    """The true gradient within the common window: both endpoints learn as one network."""

    joins_endpoints = True
    allows_states = True

    def read_kind(self, *, same_window: bool, is_state: bool) -> ReadKind:
        """Return the graph; a message of an earlier window is a constant, where its credit is lost."""
        return ReadKind.WITH_GRAPH if same_window else ReadKind.CONSTANT


@_built_in("delayed")
class Delayed(Coupling):
    """The true gradient when it has returned; the message's window is then replayed and learned."""

    uses_returned = True
    waits = True

    def credit(self, message: CreditedMessage, step: int) -> torch.Tensor | None:
        return message.returned_gradient


@_built_in("detached")
class Detached(Coupling):
    """No gradient crosses the channel; within a window a state keeps its graph, and its agent learns through it.

    Reads of messages count all the same, without a gradient: a message shows whether it was used.
    """

    allows_states = True


@_built_in("decoupled")
class Decoupled(Coupling):
    """A synthetic gradient, immediately; a synthetic input may replace missing messages."""

    predicts = True
    allows_states = True

    def credit(self, message: CreditedMessage, step: int) -> torch.Tensor | None:
        return message.applied_prediction


@_built_in("unlocked")
class Unlocked(Decoupled):
    """A synthetic gradient, immediately; the receiver reads the synthetic input in place of every message."""

    replaces_messages = True
    allows_states = False


DEFAULT = Decoupled.name
"""The coupling of a channel that names none."""
