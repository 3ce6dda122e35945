"""The cut of a part: its halves of the channels between it and other parts, and what is missing in them (semantics 43).

Both halves of a cut channel keep the channel's ledger by the same schedule. The receiving half enters a message at the step
at which the other half sends, and what arrives fills it before it is read; the sending half is given back what the other
half's windows have returned before it is due. So each half has, of what it reads, what an uncut channel has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.links import of_levels
from antiphon.distributed.parts.packing import unpack
from antiphon.engine.heart.feature import TickPoints
from antiphon.engine.heart.message import Booked, Message
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System


@dataclass(frozen=True, eq=False)
class CutMessage:
    """A message that crosses: of all channels of one stack between two parts.

    Attributes:
        content: [rows, size], as received; or its levels as bytes (`pack`), on a link of so many bits.
        example: The step whose signals it was made from; -1: of none.
        signals: Those that it was made from, where it is of an aligned agent; None: the receiver has them.
        largest: [rows, 1], of levels: the largest magnitude of each sample; None: they are none.
    """

    channel: str
    stamp: int
    content: Tensor
    example: int
    signals: Mapping[str, Tensor] | None = None
    largest: Tensor | None = None


@dataclass(frozen=True)
class Return:
    """What comes back for a message.

    Attributes:
        finished: The step at which the last window that used it closed.
        counted: [rows] bool: where a use counted; or everywhere, or nowhere.
        gradient: [rows, size], per sample; None: nothing.
        loss: [rows]: its receiver's, for critics; None: it is not needed.
    """

    channel: str
    stamp: int
    finished: int
    counted: Tensor | bool
    gradient: Tensor | None
    loss: Tensor | None


class CutChannels:
    """The halves of the cut channels of one part.

    Args:
        remote_parts: By channel that is cut: the part that its other endpoint is in.
        signals: By cut channel: the names of the signals that travel with its messages (`halves.travelling_signals`).

    Attributes:
        part_of: By cut channel: the part that its other endpoint is in.
        neighbours: These parts, in order.
        sending: The halves whose sender is here, by the first channel of their stack.
        receiving: The halves whose receiver is here.
        unfilled_messages: Messages whose content is missing, by channel and stamp.
        covered: By neighbour: the step up to which what it sent has arrived.
    """

    def __init__(
        self,
        system: System,
        points: TickPoints,
        remote_parts: Mapping[str, int],
        index: int,
        signals: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.system, self.points = system, points
        self.index, self.part_of, self.signals = index, remote_parts, signals
        cut = [channel for channel in system.channels.values() if channel.member_names[0] in remote_parts]
        self.neighbours = tuple(sorted({remote_parts[channel.member_names[0]] for channel in cut}))
        self.sending = {c.member_names[0]: c for c in cut if c.sender in system.agents}
        self.receiving = {c.member_names[0]: c for c in cut if c.receiver in system.agents}
        self.unfilled_messages: dict[tuple[str, int], Message] = {}
        self.covered: dict[int, int] = {}
        for channel in self.sending.values():
            # What is returned may take so much longer to be known here; and what arrives is held elsewhere.
            channel.ledger.allow_slack(
                max(channel.ledger.timetable.return_delay, channel.ledger.timetable.delay) + 1
            )
            channel.ledger.hold_none()

    def reset(self, step: int) -> None:
        """Begin at `step`: all that was sent before has arrived."""
        self.unfilled_messages.clear()
        self.covered = dict.fromkeys(self.neighbours, step)

    def enter(self, step: int, step_signals: StepSignals) -> None:
        """Enter the messages that other parts send at `step`, with zeros in place of their contents."""
        for key, channel in self.receiving.items():
            if channel.ledger.timetable.sender_clock.ticks_at(step):
                void = channel.void_when_sent(step_signals)
                message = channel.ledger.send(step, channel.content.zeros, step_signals, void)
                message.close_sender_window()  # the other half keeps it for its sender
                for feature in self.points.after_enter:
                    feature.after_enter(channel, message)
                self.unfilled_messages[key, step] = message

    def fill(self, placeholder: Message, arrived: CutMessage | None) -> None:
        """Put what has arrived in place of a message without its content; None: it is lost."""
        if arrived is None:
            placeholder.fate.set_lost(ALL)
            return
        signals = None
        if arrived.signals is not None:
            values = {name: self._copied(value) for name, value in arrived.signals.items()}
            signals = StepSignals(arrived.example, values)
        link, content = self.receiving[arrived.channel].ledger.link, self._copied(arrived.content)
        if arrived.largest is not None:
            assert link.bits is not None
            level = unpack(content, link.bits, placeholder.carried_value)
            content = of_levels(level, self._copied(arrived.largest), link.bits)
        placeholder.replace_values(content, content, signals)

    def give_back(self, returned: Return, finished: int) -> None:
        """Enter what has come back for a message, finished at a step."""
        counted, gradient, loss = map(self._copied, (returned.counted, returned.gradient, returned.loss))
        self._finish(returned.channel, returned.stamp, finished, Booked(gradient, loss, Mask.of(counted)))

    def give_up(self, channel: str, stamp: int, finished: int) -> None:
        """Enter that nothing comes back for a message."""
        self._finish(channel, stamp, finished, Booked(None, None, NONE))

    def _finish(self, channel: str, stamp: int, finished: int, booked: Booked) -> None:
        ledger = self.sending[channel].ledger
        ledger.messages[stamp].replace_booked(booked)
        ledger.finish(ledger.messages[stamp], finished)

    def _copied(self, content: Any) -> Any:
        """A tensor as one of its own on the part's device; anything else as it is."""
        return content.to(self.system.device, copy=True) if isinstance(content, Tensor) else content
