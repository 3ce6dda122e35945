"""Reads: how what a tick reads over a channel is differentiated; message_lives.py has the whole rule (rule 18, reads)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor

from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.layout import LearningRows
from antiphon.engine.heart.message import Arrival, Message
from antiphon.engine.heart.roles import MASK, NESTED, PLAIN, ROWS

OutputsWithGraph: TypeAlias = Mapping[tuple[str, int], Tensor]
"""See `Window.outputs_with_graph`."""


@dataclass(slots=True, eq=False)
class Constant:
    """A read that is not differentiated, also that of zeros before the first message.

    Nothing is booked for it, so it keeps neither the message nor its stamp. What needs a stamp is noted by a feature as the tick reads
    (features/ages.py).
    """

    channel_name: str = field(metadata=PLAIN)
    value: Tensor | None = field(default=None, metadata=ROWS)
    """[rows, size]; None: zeros."""
    available: Mask = field(default=NONE, metadata=MASK)
    """Where the tick has a value to read; zeros elsewhere."""

    @classmethod
    def of(cls, arrival: Arrival, channel: Channel) -> Constant:
        """Return an arrival as a read that does not count."""
        return cls(channel.name, arrival.value, arrival.available)

    def constant_value_in(self, outputs_with_graph: OutputsWithGraph, channel: Channel) -> Tensor:
        """Return the value read, [rows, size], without a graph; for policies, which evaluate it again."""
        return channel.content.zeros if self.value is None else constant(self.value)

    def differentiable_value_in(
        self, outputs_with_graph: OutputsWithGraph, channel: Channel, learning_rows: LearningRows
    ) -> Tensor:
        """Return the value read with the graph that losses are differentiated through, in the `learning_rows` of the receiver."""
        return channel.content.zeros if self.value is None else self.value


@dataclass(slots=True, eq=False)
class WithGraph:
    """A read that is differentiated through the sender of its message, in the same window: over locked channels, and of states."""

    channel_name: str = field(metadata=PLAIN)
    stamp: int = field(metadata=PLAIN)
    """The step at which the message was sent."""
    available: Mask = field(default=NONE, metadata=MASK)
    """Where the tick has a value to read; zeros elsewhere."""

    def constant_value_in(self, outputs_with_graph: OutputsWithGraph, channel: Channel) -> Tensor:
        """Return the value read without a graph: see `Constant`."""
        return constant(self.carried_value(outputs_with_graph, channel))

    def differentiable_value_in(
        self, outputs_with_graph: OutputsWithGraph, channel: Channel, learning_rows: LearningRows
    ) -> Tensor:
        """Return the value read with its graph in the `learning_rows`, constant elsewhere: see `Constant`.

        On a channel with a fixed path the gradient takes that, and the value is constant.
        """
        value = self.carried_value(outputs_with_graph, channel)
        if channel.feedback.direct is not None or channel.feedback.weights is not None:
            return constant(value)
        if learning_rows is ALL:
            return value
        return channel.mask_from_receiver(learning_rows).where(value, constant(value))

    def carried_value(self, outputs_with_graph: OutputsWithGraph, channel: Channel) -> Tensor:
        """Return the message with its graph, flat, [rows, size], as the link carries it; gradients pass straight through it (rule 8)."""
        output = outputs_with_graph[self.channel_name, self.stamp].flatten(1)
        return self.available.zero_elsewhere(channel.ledger.link.carry(self.stamp, output))


@dataclass(slots=True, eq=False)
class CountedRead:
    """A read that ends the receiver's graph and counts for its message (`Booked.add_read`), in the rows `counted`.

    Where the ledger `returns_gradients`, its value is a leaf of autograd, and its gradient is booked.
    """

    channel_name: str = field(metadata=PLAIN)
    message: Message = field(metadata=NESTED)
    value: Tensor = field(metadata=ROWS)
    """[rows, size]."""
    available: Mask = field(metadata=MASK)
    """Where the tick has a value to read; zeros elsewhere."""
    counted: Mask = field(metadata=MASK)
    """Where the read counts: gradients elsewhere are not booked."""
    only_tick: int | None = field(metadata=PLAIN)
    """The step of the only tick that has the read; None: all ticks of the window that read the message share it."""

    def constant_value_in(self, outputs_with_graph: OutputsWithGraph, channel: Channel) -> Tensor:
        """Return the value read without a graph: see `Constant`."""
        return constant(self.value)

    def differentiable_value_in(
        self, outputs_with_graph: OutputsWithGraph, channel: Channel, learning_rows: LearningRows
    ) -> Tensor:
        """Return the value read with its graph: see `Constant`."""
        return self.value

    def free_value(self) -> None:
        """Free the value, once no tick reads it any more."""
        self.value = self.value.new_empty(0)


Read: TypeAlias = CountedRead | WithGraph | Constant
"""One read of a tick over a channel, by what is differentiated."""
