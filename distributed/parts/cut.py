"""The cut of a part: its halves of the channels between it and other parts, and what is missing in them (semantics 43).

Both halves of a cut channel keep the channel's ledger by the same schedule. The receiving half enters a message at the step
at which the other half sends, and what arrives fills it before it is read; the sending half is given back what the other
half's windows have returned before it is due. So each half has, of what it reads, what an uncut channel has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from antiphon.base.mask import Mask
from antiphon.comms.links import of_levels
from antiphon.distributed.parts.cut_ledger import enter, fill, give_back
from antiphon.distributed.parts.exchange import CutMessage, Return
from antiphon.distributed.parts.packing import unpack
from antiphon.engine.heart.feature import TickPoints
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System


class CutChannels:
    """The halves of the cut channels of one part.

    Args:
        remote_parts: By channel that is cut: the part that its other endpoint is in.
        signals: By cut channel: the names of the signals that travel with its messages (`halves.travelling_signals`).
        remembered: The steps whose signals it remembers (`halves.steps_remembered`); every part has seen the same.

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
        remembered: int,
    ) -> None:
        self.system, self.points = system, points
        self.index, self.part_of, self.signals = index, remote_parts, signals
        cut = [channel for channel in system.channels.values() if channel.member_names[0] in remote_parts]
        self.neighbours = tuple(sorted({remote_parts[channel.member_names[0]] for channel in cut}))
        self.sending = {c.member_names[0]: c for c in cut if c.sender in system.agents}
        self.receiving = {c.member_names[0]: c for c in cut if c.receiver in system.agents}
        self._remembered, self._seen = remembered, dict[int, StepSignals]()
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
        self._seen.clear()
        self.covered = dict.fromkeys(self.neighbours, step)

    def enter(self, step: int, step_signals: StepSignals) -> None:
        """Enter the messages that other parts send at `step`, without their contents."""
        if self._remembered:
            self._seen[step] = step_signals
            self._seen.pop(step - self._remembered, None)
        for key, channel in self.receiving.items():
            if channel.ledger.timetable.sender_clock.ticks_at(step):
                void = channel.void_when_sent(step_signals)
                message = enter(channel.ledger, step, channel.content.zeros, step_signals, void=void)
                for feature in self.points.after_enter:
                    feature.after_enter(channel, message)
                self.unfilled_messages[key, step] = message

    def has_seen(self, step_signals: StepSignals) -> bool:
        """Whether these are the signals of a step that all parts remember, not those of several, or of before the run was divided."""
        return self._seen.get(step_signals.step) is step_signals

    def fill(self, placeholder: Message, arrived: CutMessage) -> None:
        """Put what has arrived in place of a message without its content."""
        signals = None
        if arrived.signals is not None:
            values = {name: self._copied(value) for name, value in arrived.signals.items()}
            signals = StepSignals(arrived.example, values)
        elif arrived.channel in self.signals:
            signals = self._seen[arrived.example]
        ledger, content = self.receiving[arrived.channel].ledger, self._copied(arrived.content)
        if arrived.largest is not None:
            assert ledger.link.bits is not None
            level = unpack(content, ledger.link.bits, placeholder.carried_value)
            content = of_levels(level, self._copied(arrived.largest), ledger.link.bits)
        fill(placeholder, content, signals)

    def give_back(self, returned: Return, finished: int) -> None:
        """Enter what has come back for a message, finished at a step."""
        counted, gradient, loss = (
            self._copied(value) for value in (returned.counted, returned.gradient, returned.loss)
        )
        ledger = self.sending[returned.channel].ledger
        give_back(ledger, returned.stamp, finished, Mask.of(counted), gradient, loss)

    def _copied(self, content: Any) -> Any:
        """A tensor as one of its own on the part's device; anything else as it is."""
        return content.to(self.system.device, copy=True) if isinstance(content, Tensor) else content
