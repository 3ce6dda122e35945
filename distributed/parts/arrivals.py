"""What a part does with what arrives over its cut: `Arrivals`; and in lockstep, where it waits for what it reads."""

from __future__ import annotations

from typing import Protocol

from antiphon.base.errors import EngineError
from antiphon.distributed.parts.cut import CutChannels
from antiphon.distributed.parts.exchange import CutMessage, Exchange
from antiphon.engine.heart.message import Message

Origin = tuple[int, int]
"""Incarnation and stamp of a sender."""


class Arrivals(Protocol):
    """Which message what has arrived fills, which gradient of a sender is returned, and what a step waits for."""

    def reset(self, step: int) -> None:
        """Forget what is on its way: all that was sent before `step` has arrived."""

    def waits_for(self, step: int) -> tuple[int, ...]:
        """Return the neighbours without whose exchanges `step` cannot be taken."""

    def begin_step(self, step: int) -> None:
        """Note that a step begins."""

    def fill_arrived(self, step: int) -> None:
        """Fill the messages that are read at `step`."""

    def note_sent(self, key: str, message: Message, incarnation: int) -> None:
        """Note that a message is to cross, sent in this incarnation of the part."""

    def origin(self, key: str, message: Message) -> Origin | None:
        """Return the message of the sender to which what a message has returned is given back; None: to none."""

    def deliver(self, exchange: Exchange, now: int) -> None:
        """Take what a neighbour has sent; `now`: the step that this part comes to next."""


class LockstepArrivals:
    """Each message is filled with its own content, before it is read; what comes back is known when it is due.

    Args:
        lookahead: Steps that it may be ahead of what its neighbours have sent.
    """

    def __init__(self, cut: CutChannels, lookahead: int) -> None:
        self._cut, self._lookahead = cut, lookahead
        self._early: dict[tuple[str, int], CutMessage] = {}
        """What has arrived and is not in its message yet."""

    def reset(self, step: int) -> None:
        """See `Arrivals.reset`."""
        del step
        self._early.clear()

    def waits_for(self, step: int) -> tuple[int, ...]:
        """Return the neighbours whose exchanges `step` needs and has not got."""
        return tuple(n for n, end in self._cut.covered.items() if end <= step - self._lookahead)

    def begin_step(self, step: int) -> None:
        """See `Arrivals.begin_step`."""

    def fill_arrived(self, step: int) -> None:
        """Fill the messages whose content has arrived.

        Raises:
            EngineError: One that is read at `step` is without.
        """
        unfilled, early = self._cut.unfilled_messages, self._early
        for key, stamp in unfilled.keys() & early.keys():
            self._cut.fill(unfilled.pop((key, stamp)), early.pop((key, stamp)))
        for (name, stamp), message in unfilled.items():
            if message.read_plan.first_tick is not None and message.read_plan.first_tick <= step:
                line = f"the message of step {stamp + 1} over {name} has not arrived when it is read at step {step + 1}"
                raise EngineError(f"part {self._cut.index}: {line}")

    def note_sent(self, key: str, message: Message, incarnation: int) -> None:
        """See `Arrivals.note_sent`; what is sent again is the same."""

    def origin(self, key: str, message: Message) -> Origin | None:
        """See `Arrivals.origin`."""
        del key
        return (0, message.stamp) if message.read_plan.is_bookable else None

    def deliver(self, exchange: Exchange, now: int) -> None:
        """Take what a neighbour has sent.

        Raises:
            EngineError: It is not the next of that neighbour.
        """
        cut = self._cut
        expected = cut.covered[exchange.sender]
        if exchange.first != expected:
            raise EngineError(
                f"part {cut.index}: part {exchange.sender} sent the steps from {exchange.first} on, not from {expected} on"
            )
        cut.covered[exchange.sender] = exchange.end
        for message in exchange.messages:
            key = message.channel, message.stamp
            if key in cut.unfilled_messages or message.stamp >= now:
                self._early[key] = message
        self.fill_arrived(now - 1)
        for returned in exchange.returns:
            cut.give_back(returned, returned.finished)
