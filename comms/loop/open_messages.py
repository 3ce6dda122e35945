"""Messages of one channel from sending to the predictor's step: which message a returned gradient belongs to.

A gradient belongs to the message that the receiver's objective depends on, whenever it returns. A message is complete when
no reference to it is left (neither the receiver's own nor one in a graph), so that nothing can return for it any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from antiphon.comms.backward_requests import as_leaf, value_of
from antiphon.comms.examples import Example
from antiphon.comms.loop.finite import all_finite

_MOST_WAITING = 16
"""Complete messages that are kept for one step of the predictor; of older ones only their gradients' sum is kept."""


@dataclass(slots=True, eq=False)
class SentMessage:
    """A sent message, kept until the predictor was trained on its returned gradient."""

    example: Example
    prediction: Tensor
    """[B, size], as predicted when it was sent."""
    updates: int
    """The predictor's updates when the message was sent."""
    has_return: bool
    """Whether a gradient has returned; True for predictors that need none."""
    version: int = field(init=False)
    """Changes in place so far of the memory that it shares with the sender."""
    leaf: TensorWeakRef | None = None
    """Leaf tensor that the receiver differentiates, once received."""
    unused: bool = False
    """Whether the receiver learned, and its objective depended on none of the channel's messages."""
    learned: bool = False
    """Whether the predictor was trained on it."""
    _finite: bool | None = None
    """Whether it, its context and its prediction are finite; None: not yet read."""

    def __post_init__(self) -> None:
        self.version = self.example.message._version

    @property
    def changed(self) -> bool:
        """Whether its values were changed in place since it was sent."""
        return self.example.message._version != self.version

    @property
    def reachable(self) -> bool:
        """Whether a graph or the receiver's loop still holds it, so that a gradient may return."""
        return self.leaf is not None and self.leaf() is not None

    @property
    def ready(self) -> bool:
        """Whether the predictor learns from it; without any dependence its gradient is zero."""
        return self.has_return or (self.unused and not self.reachable)

    @property
    def dropped(self) -> bool:
        """Whether its receiver no longer holds it and nothing has returned: the loop has left its batch out."""
        return self.leaf is not None and not (self.reachable or self.has_return or self.unused)

    @property
    def finite(self) -> bool:
        """Whether the message, its context and target, and its predicted gradient are finite."""
        if self._finite is None:
            example = self.example
            self._finite = all_finite([example.message, example.context, example.target, self.prediction])
        return self._finite

    @property
    def undefined(self) -> str:
        rows = (~self.example.message.isfinite()).any(1).nonzero()
        if len(rows):
            return f"a message (row {int(rows[0])})"
        of_context = not all_finite([self.example.context, self.example.target])
        return "a signal of the context" if of_context else "the predicted gradient"

    def book(self, gradient: Tensor, losses: Tensor | None) -> None:
        """Add the gradient dL/dmessage of one use, [B, …], and the receiver's losses [B]."""
        if not self.has_return:
            self.example.forget_loss()  # of an objective that did not depend on it
        self.has_return = True
        self.example.add_returned(value_of(gradient) * len(gradient), losses)

    def book_unused(self, losses: Tensor | None) -> None:
        """Add the losses [B] of an objective that depends on none of the channel's messages."""
        self.unused = True
        self.example.add_returned(None, losses)

    def trained_on(self, updates: int) -> Example:
        """Return its training example for a predictor that has taken so many updates."""
        self.learned, example = True, self.example
        current = self.updates == updates
        return replace(
            example,
            returned=torch.zeros_like(example.message) if example.returned is None else example.returned,
            prediction=self.prediction if current else example.prediction,
            learned=example.learned if current else None,
        )

    def receive(self, leaf: Tensor) -> None:
        self.leaf = TensorWeakRef(leaf)


class OpenMessages:
    """The messages of one channel for which a gradient may return, or has."""

    def __init__(self) -> None:
        self.messages: list[SentMessage] = []
        self._newest: SentMessage | None = None
        self._leaf: Tensor | None = None
        self._learned: list[TensorWeakRef] = []

    def __len__(self) -> int:
        return len(self.messages)

    def add(self, message: SentMessage | None) -> None:
        """Make a message the newest, or one that is not recorded (None); forget what nothing can return for."""
        self._newest, self._leaf = message, None
        self.messages = [sent for sent in self.messages if sent.ready or sent.reachable]
        if message is not None:
            self.messages.append(message)

    def receive(self, live: Tensor) -> Tensor | None:
        """Return the newest message as a leaf, the same at every call; None if no gradient is expected for it."""
        if self._newest is None or (self._newest.has_return and self._newest.leaf is None):
            return None
        if self._leaf is None:
            self._leaf = as_leaf(live)
            self._newest.receive(self._leaf)
        return self._leaf

    def received(self) -> list[tuple[SentMessage, Tensor]]:
        """Return the messages for which a gradient may return, with their leaves."""
        leaves = [(sent, sent.leaf()) for sent in self.messages if sent.leaf is not None]
        return [(sent, leaf) for sent, leaf in leaves if leaf is not None]

    def learned(self) -> list[Tensor]:
        """Return the leaves of messages on which the predictor was trained, and which an objective may still reach."""
        self._learned = [leaf for leaf in self._learned if leaf() is not None]
        return [leaf for leaf in (reference() for reference in self._learned) if leaf is not None]

    def take(self) -> list[SentMessage]:
        """Remove and return the messages that the predictor learns from, in the order of sending."""
        return self._removed([sent for sent in self.messages if sent.ready])

    def take_surplus(self) -> list[SentMessage]:
        """Remove and return the oldest complete messages, if more wait than are kept."""
        complete = [sent for sent in self.messages if sent.ready and not sent.reachable]
        return self._removed(complete[:-_MOST_WAITING])

    def leave_out(self, messages: Sequence[SentMessage]) -> None:
        """Forget messages from which nothing is learned."""
        self.messages = [sent for sent in self.messages if sent not in messages]

    def _removed(self, ready: list[SentMessage]) -> list[SentMessage]:
        if ready:
            self.messages = [sent for sent in self.messages if sent not in ready]
            self._learned += [sent.leaf for sent in ready if sent.leaf is not None]
        return ready
