"""What arrives at a part that does not wait, in virtual time: steps are its own, and what has not come counts as lost.

A message is read at the step at which it is taken from its queue, whatever step its sender was at. What comes back for it is
learned from at the step at which it arrives, or is given up. Where all parts are equally fast and nothing is late, lost or
dropped, all that is read is what lockstep reads over links of delay 1 (semantics 44).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from antiphon.distributed.parts.boundary import Boundary
from antiphon.distributed.parts.cut import CutMessage, Exchange
from antiphon.engine.heart.clock import Clock
from antiphon.engine.heart.signals import StepSignals

_QUEUE = 8
"""Messages of a channel that wait for an aligned receiver, at most; then the oldest are dropped."""
_STALENESS = 1024
"""Steps after which a sender gives up waiting for the gradient of a message."""


class FreeBoundary(Boundary):
    """Enters messages when they come, and gives gradients back by the sender's own steps.

    Attributes:
        totals: Messages for which something came back in time (`returned`), the steps from each of these to the one that learns
            from it (`staleness`), and messages for which nothing did (`given_up`).
    """

    def __init__(self, *cut: Any) -> None:
        super().__init__(*cut)
        self.totals: Counter[str] = Counter()
        for channel in self.receiving.values():  # what has not come in time counts as lost
            channel.wire.inbox.holds = True
        self._aligned: list[tuple[Clock, list[str]]] = []
        """Of agents that are aligned to a cut channel: the clock, and the cut channels that they read, that one first."""
        for name, agent in self.system.agents.items():
            read = {key: channel.name for key, channel in self.receiving.items() if channel.receiver == name}
            if agent.inputs.align_channel_name in read.values():
                self._aligned.append(
                    (agent.clock, sorted(read, key=lambda key: read[key] != agent.inputs.align_channel_name))
                )
        self._in_turn = {key for _, keys in self._aligned for key in keys}
        """Channels whose messages are read one after the other; of others the newest one is."""

    def reset(self, step: int) -> None:
        super().reset(step)
        self._queues: dict[str, list[CutMessage]] = {key: [] for key in self.receiving}
        self._newest: dict[str, int] = {}
        """Per channel: the newest stamp that has arrived."""
        self._origins: dict[tuple[str, int], int] = {}
        """By channel and own stamp: the sender's stamp of what filled it."""

    def waits_for(self, step: int) -> tuple[int, ...]:
        """Return the parts without whose messages `step` cannot be taken: those that an agent is aligned to."""
        missing: set[str] = set()
        for clock, keys in self._aligned:
            if clock.ticks_at(step) and self._match(keys, step) is None:
                read = self._read(keys, step)
                missing.update([key for key in read if not self._queues[key]] or read)
        return tuple(sorted({self.part_of[key] for key in missing}))

    def enter(self, step: int, step_signals: StepSignals) -> None:
        """Give up what has not come back for too long, and enter the messages that other parts send at `step`."""
        for channel in self.sending.values():
            for stamp, sent in list(channel.wire.outbox.sent.items()):
                if sent.finished_at is None and stamp + _STALENESS < step:
                    self.totals["given_up"] += 1
                    channel.wire.outbox.take_returned(stamp, finished_at=step)
        super().enter(step, step_signals)

    def fill_arrived(self, step: int) -> None:
        """Fill the messages that reach their receivers at `step` with what has come; without, they are lost."""
        chosen: dict[str, CutMessage] = {}
        for _, keys in self._aligned:
            chosen |= self._match(keys, step) or {}
        for key, channel in self.receiving.items():
            wire, queue = channel.wire, self._queues[key]
            stamp = wire.timetable.newest_due(step)
            if stamp is None or (key, stamp) not in self.unfilled_messages:
                continue
            placeholder = self.unfilled_messages.pop((key, stamp))
            message = chosen.get(key, queue[-1] if queue and not wire.aligned else None)
            if message is None or not placeholder.plan.is_bookable:
                self.fill(placeholder, None)
                continue
            del queue[: queue.index(message) + 1]
            self.fill(placeholder, message)
            if not wire.holds_all:
                wire.inbox.hold_all_of(placeholder)
            self._origins[key, stamp] = message.stamp

    def _read(self, keys: list[str], step: int) -> list[str]:
        """The channels over which the schedule has a message that reaches its receiver at `step` and has still to come."""
        return [
            key
            for key in keys
            if (key, self.receiving[key].wire.timetable.newest_due(step)) in self.unfilled_messages
        ]

    def _match(self, keys: list[str], step: int) -> dict[str, CutMessage] | None:
        """What an aligned receiver reads at `step`: the oldest example that has come over all of its cut channels.

        Where the queue of the channel that it is aligned to is full, its oldest message alone; None: it has to wait.
        """
        read = self._read(keys, step)
        if keys[0] not in read:
            return {}
        queue = self._queues[keys[0]]
        for first in queue:
            same = {
                key: queued
                for key in read
                for queued in reversed(self._queues[key])
                if queued.example == first.example
            }
            if len(same) == len(read):
                return same
        return {keys[0]: queue[0]} if len(queue) >= _QUEUE else None

    def origin(self, key: str, stamp: int) -> int | None:
        return self._origins.pop((key, stamp), None)

    def deliver(self, exchange: Exchange, now: int) -> None:
        """Take what a neighbour has sent, in whatever order it comes; `now`: the step that this part comes to next."""
        self.covered[exchange.sender] = max(exchange.end, self.covered[exchange.sender])
        for message in exchange.messages:
            self._queue(message)
        for returned in exchange.returns:
            sent = self.sending[returned.channel].wire.outbox.sent.get(returned.stamp)
            if sent is not None and sent.finished_at is None:  # else it has been given up
                self.totals.update(returned=1, staleness=now - returned.stamp)
                self.give_back(returned, back_at=now)

    def _queue(self, message: CutMessage) -> None:
        key, in_turn, queue = message.channel, message.channel in self._in_turn, self._queues[message.channel]
        if message.stamp > self._newest.get(key, -1):
            self._newest[key] = message.stamp
        elif not in_turn:
            return  # a newer one has overtaken it
        queue.append(message)
        queue.sort(key=lambda queued: queued.stamp)
        del queue[: max(0, len(queue) - (_QUEUE if in_turn else 1))]
