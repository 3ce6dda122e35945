"""What arrives at a part that does not wait: steps are its own, and what has not come counts as lost.

A message is read at the step at which it is taken from its queue, whatever step its sender was at. What comes back for it is
learned from at the step at which it arrives, or is given up. Where all parts are equally fast and nothing is late, lost or
dropped, all that is read is what lockstep reads over links of delay 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from antiphon.base.mask import NONE
from antiphon.distributed.parts.boundary import Boundary, Origin
from antiphon.distributed.parts.cut import CutChannels
from antiphon.distributed.parts.cut_ledger import fill, give_back
from antiphon.distributed.parts.exchange import CutMessage, Exchange
from antiphon.distributed.parts.free_settings import FreeSettings
from antiphon.engine.heart.clock import Clock
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.signals import StepSignals


@dataclass(frozen=True)
class ArrivalTotals:
    """Totals of one part."""

    returned: int = 0
    """Messages for which something came back in time."""
    staleness: int = 0
    """Steps from each of these to the one that learns from what came back, their sum."""
    given_up: int = 0
    """Messages for which nothing came back within the bound, or too late."""
    missed: int = 0
    """Ticks at which a receiver found no new message."""
    dropped: int = 0
    """Messages that arrived and were never read: the queue was full, or a newer one was there."""

    def __add__(self, other: ArrivalTotals) -> ArrivalTotals:
        return ArrivalTotals(**{name: number + getattr(other, name) for name, number in vars(self).items()})


_OF_WHOLE = -1
"""The incarnation of messages that were sent before a division into parts."""
Queued = tuple[int, CutMessage]
"""A message that has arrived and not been read, and its sender's incarnation."""


class FreeBoundary(Boundary):
    """Enters messages when they come, and gives gradients back by the sender's own steps."""

    def __init__(self, cut: CutChannels, settings: FreeSettings) -> None:
        super().__init__(cut)
        self._settings = settings
        self.totals = ArrivalTotals()
        for channel in cut.sending.values():
            channel.ledger.allow_slack(settings.staleness)
        for channel in cut.receiving.values():  # what has not come in time counts as lost
            channel.ledger.hold_messages()
        self._aligned: list[tuple[Clock, list[str]]] = []
        """Of agents that are aligned to a cut channel: the clock, and the cut channels that they read, that one first."""
        for name, agent in cut.system.agents.items():
            read = {key: channel.name for key, channel in cut.receiving.items() if channel.receiver == name}
            if agent.inputs.align_channel_name in read.values():
                self._aligned.append(
                    (agent.clock, sorted(read, key=lambda key: read[key] != agent.inputs.align_channel_name))
                )
        self._in_turn = {key for _, keys in self._aligned for key in keys}
        """Channels whose messages are read one after the other; of others the newest one is."""
        self._queues: dict[str, list[Queued]] = {}
        self._newest: dict[str, Origin] = {}
        """Per channel, of all that has arrived."""
        self._origins: dict[tuple[str, int], Origin] = {}
        """By channel and own stamp: what filled it."""
        self._sent: dict[tuple[str, int], int] = {}
        """By channel and stamp: the incarnation that sent it, while something may come back."""
        self.reset(0)

    def reset(self, step: int) -> None:
        """Begin from the state of a whole: what is in both halves' ledgers has been sent and arrived."""
        super().reset(step)
        cut = self._cut
        self._queues = {key: [] for key in cut.receiving}
        self._newest, self._origins, self._sent = {}, {}, {}
        for key, channel in (cut.receiving | cut.sending).items():
            for stamp, message in channel.ledger.messages.items():
                if message.finished_at is None and key in cut.receiving:
                    self._origins[key, stamp] = _OF_WHOLE, stamp
                elif message.finished_at is None:
                    self._sent[key, stamp] = _OF_WHOLE

    # --- a step --------------------------------------------------------------------------------------------

    def waits_for(self, step: int) -> tuple[int, ...]:
        """Return the parts without whose messages `step` cannot be taken: those that an agent is aligned to."""
        missing: set[str] = set()
        for clock, keys in self._aligned:
            if clock.ticks_at(step) and self._match(keys, step) is None:
                read = self._read(keys, step)
                missing.update([key for key in read if not self._queues[key]] or read)
        return tuple(sorted({self._cut.part_of[key] for key in missing}))

    def enter(self, step: int, step_signals: StepSignals) -> None:
        """Give up what has not come back for too long, and enter the messages that other parts send at `step`."""
        for key, channel in self._cut.sending.items():
            for stamp, message in list(channel.ledger.messages.items()):
                if message.finished_at is None and stamp + self._settings.staleness < step:
                    self.totals += ArrivalTotals(given_up=1)
                    self._sent.pop((key, stamp), None)
                    give_back(channel.ledger, stamp, step, NONE, None, None)
        super().enter(step, step_signals)

    def fill_arrived(self, step: int) -> None:
        """Fill the messages that reach their receivers at `step` with what has come; without, they are lost."""
        chosen: dict[str, Queued] = {}
        for _, keys in self._aligned:
            chosen |= self._match(keys, step) or {}
        for key, channel in self._cut.receiving.items():
            ledger, queue = channel.ledger, self._queues[key]
            stamp = ledger.timetable.newest_due(step)
            if stamp is None or (key, stamp) not in self._cut.unfilled_messages:
                continue
            placeholder = self._cut.unfilled_messages.pop((key, stamp))
            if queue and not ledger.aligned and placeholder.read_plan.is_bookable:
                chosen.setdefault(key, queue[-1])
            if key not in chosen or not placeholder.read_plan.is_bookable:
                self.totals += ArrivalTotals(missed=int(placeholder.read_plan.is_bookable))
                fill(placeholder, None)
                continue
            position = queue.index(chosen[key])
            self.totals += ArrivalTotals(dropped=position)
            incarnation, message = queue[position]
            del queue[: position + 1]
            self._cut.fill(placeholder, message)
            assert ledger.held_messages is not None
            if not ledger.holds_all:
                ledger.held_messages.hold_crossed(placeholder, aligned=ledger.aligned)
            self._origins[key, stamp] = incarnation, message.stamp

    def _read(self, keys: list[str], step: int) -> list[str]:
        """The channels over which the schedule has a message that reaches its receiver at `step` and has still to come."""
        return [
            key
            for key in keys
            if (key, self._cut.receiving[key].ledger.timetable.newest_due(step))
            in self._cut.unfilled_messages
        ]

    def _match(self, keys: list[str], step: int) -> dict[str, Queued] | None:
        """What an aligned receiver reads at `step`: the oldest example that has come over all of its cut channels.

        Where the queue of the channel that it is aligned to is full, its oldest message alone; None: it has to wait.
        """
        read = self._read(keys, step)
        if keys[0] not in read:
            return {}
        queue = self._queues[keys[0]]
        for _, first in queue:
            same = {
                key: next(
                    (queued for queued in self._queues[key] if queued[1].example == first.example), None
                )
                for key in read
            }
            aligned = {key: queued for key, queued in same.items() if queued is not None}
            if len(aligned) == len(read):
                return aligned
        return {keys[0]: queue[0]} if len(queue) >= self._settings.queue else None

    def note(self, step: int, incarnation: int) -> None:
        """Note what other parts are to have of `step`; what comes back for it comes to this incarnation alone."""
        super().note(step, incarnation)
        for key, channel in self._cut.sending.items():
            timetable, messages = channel.ledger.timetable, channel.ledger.messages
            if timetable.sender_clock.ticks_at(step) and messages[step].read_plan.is_bookable:
                self._sent[key, step] = incarnation

    def origin(self, key: str, message: Message) -> Origin | None:
        """Return which message of the sender is given back; None: nothing is."""
        return self._origins.pop((key, message.stamp), None)

    # --- between parts -------------------------------------------------------------------------------------

    def deliver(self, exchange: Exchange, now: int) -> None:
        """Take what a neighbour has sent, in whatever order it comes; `now`: the step that this part comes to next."""
        self._cut.covered[exchange.sender] = max(exchange.end, self._cut.covered[exchange.sender])
        for message in exchange.messages:
            self._queue(message, exchange.incarnation)
        for returned in exchange.returns:
            if self._sent.get((returned.channel, returned.stamp)) == returned.incarnation:
                # else it has been given up, or the part has not sent it since it was restarted
                del self._sent[returned.channel, returned.stamp]
                self.totals += ArrivalTotals(returned=1, staleness=now - returned.stamp)
                self._cut.give_back(
                    returned, now - self._cut.sending[returned.channel].ledger.timetable.return_delay
                )

    def _queue(self, message: CutMessage, incarnation: int) -> None:
        key, origin = message.channel, (incarnation, message.stamp)
        in_turn, queue = key in self._in_turn, self._queues[key]
        if origin > self._newest.get(key, (-1, -1)):
            self._newest[key] = origin
        elif not in_turn:
            self.totals += ArrivalTotals(dropped=1)  # a newer one has overtaken it
            return
        queue.append((incarnation, message))
        queue.sort(key=lambda queued: (queued[0], queued[1].stamp))
        surplus = max(0, len(queue) - (self._settings.queue if in_turn else 1))
        del queue[:surplus]
        self.totals += ArrivalTotals(dropped=surplus)

    # --- state ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what has arrived and not been read, and what may come back."""
        return {
            **super().state_dict(),
            "newest": [list(item) for item in self._newest.items()],
            "origins": [list(item) for item in self._origins.items()],
            "sent": [list(item) for item in self._sent.items()],
            "queues": {
                key: [[incarnation, message.tree] for incarnation, message in queue]
                for key, queue in self._queues.items()
            },
            "due": [list(key) for key in self._cut.unfilled_messages],
            "figures": asdict(self.totals),  # the word of checkpoints
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state, once the ledgers have been loaded; its tensors are used as they are."""
        super().load_state_dict(state)
        self._newest = {key: (incarnation, stamp) for key, (incarnation, stamp) in state["newest"]}
        self._origins = {
            (key, due_stamp): (incarnation, stamp)
            for (key, due_stamp), (incarnation, stamp) in state["origins"]
        }
        self._sent = {(key, stamp): incarnation for (key, stamp), incarnation in state["sent"]}
        self._queues = {
            key: [(incarnation, CutMessage(*fields)) for incarnation, fields in queue]
            for key, queue in state["queues"].items()
        }
        cut = self._cut
        cut.unfilled_messages = {
            (key, stamp): cut.receiving[key].ledger.messages[stamp] for key, stamp in state["due"]
        }
        self.totals = ArrivalTotals(**state["figures"])
