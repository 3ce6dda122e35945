"""The cut of a part: its halves of the channels between it and other parts, and what is missing in them (semantics 43).

The sending half is an outbox, the receiving one an inbox; a `CutWire` keeps what crosses. The receiving half takes a message
at the step at which the other half sends, and what arrives fills it before it is read; the sending half is given back what the
other half's windows have returned before it is due. So each half has, of what it reads, what an uncut channel has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from antiphon.base.mask import ALL, Mask
from antiphon.comms.links import of_levels
from antiphon.distributed.parts.packing import unpack
from antiphon.engine.heart.ends import Received, Wire
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


class CutWire(Wire):
    """One half of a channel, and what crosses to the other one, which is in another part.

    Attributes:
        crossing: The newest message sent.
        returns: What has been given back since it was last taken.
    """

    crossing: Received

    def __post_init__(self) -> None:
        super().__post_init__()
        self.returns: list[Return] = []

    def deliver(self, received: Received) -> None:
        self.crossing = received

    def pop_returns(self) -> list[Return]:
        """Return what has been given back, and forget it."""
        returns, self.returns = self.returns, []
        return returns

    def give_back(
        self, stamp: int, finished_at: int, gradient: Tensor | None, counted: Mask, loss: Tensor | None
    ) -> None:
        self.returns.append(Return(self.name, stamp, finished_at, counted.plain, gradient, loss))


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
        wires: All of them, by the same names.
        unfilled_messages: Messages whose content is missing, by channel and stamp.
        covered: By neighbour: the step up to which what it sent has arrived.
    """

    def __init__(
        self,
        system: System,
        remote_parts: Mapping[str, int],
        index: int,
        signals: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.system = system
        self.index, self.part_of, self.signals = index, remote_parts, signals
        cut = [channel for channel in system.channels.values() if channel.member_names[0] in remote_parts]
        self.neighbours = tuple(sorted({remote_parts[channel.member_names[0]] for channel in cut}))
        self.sending = {c.member_names[0]: c for c in cut if c.sender in system.agents}
        self.receiving = {c.member_names[0]: c for c in cut if c.receiver in system.agents}
        self.wires = {channel.member_names[0]: CutWire.of(channel.wire) for channel in cut}
        for channel in cut:
            channel.wire = self.wires[channel.member_names[0]]
        self.unfilled_messages: dict[tuple[str, int], Received] = {}
        self.covered: dict[int, int] = {}

    def reset(self, step: int) -> None:
        """Begin at `step`: all that was sent before has arrived."""
        self.unfilled_messages.clear()
        self.covered = dict.fromkeys(self.neighbours, step)

    def enter(self, step: int, step_signals: StepSignals) -> None:
        """Take the messages that other parts send at `step`, with zeros in place of their contents."""
        for key, channel in self.receiving.items():
            wire = channel.wire
            if wire.timetable.sender_clock.ticks_at(step):
                void, plan = channel.void_when_sent(step_signals), wire.timetable.read_plan(step)
                received = wire.carried(step, channel.content.zeros, step_signals, plan, void)
                wire.inbox.put(received)
                self.unfilled_messages[key, step] = received

    def fill(self, placeholder: Received, arrived: CutMessage | None) -> None:
        """Put what has arrived in place of a message without its content; None: it is lost."""
        if arrived is None:
            placeholder.lost = ALL
            return
        if arrived.signals is not None:
            values = {name: self._copied(value) for name, value in arrived.signals.items()}
            placeholder.signals = StepSignals(arrived.example, values)
        link, content = self.receiving[arrived.channel].wire.link, self._copied(arrived.content)
        if arrived.largest is not None:
            assert link.bits is not None
            level = unpack(content, link.bits, placeholder.value)
            content = of_levels(level, self._copied(arrived.largest), link.bits)
        placeholder.value = content

    def give_back(self, returned: Return, *, back_at: int | None = None) -> None:
        """Enter what has come back for a message; for `back_at` see `Outbox.take_back`."""
        counted, gradient, loss = map(self._copied, (returned.counted, returned.gradient, returned.loss))
        outbox = self.sending[returned.channel].wire.outbox
        outbox.take_back(returned.stamp, returned.finished, gradient, Mask.of(counted), loss, back_at=back_at)

    def _copied(self, content: Any) -> Any:
        """A tensor as one of its own on the part's device; anything else as it is."""
        return content.to(self.system.device, copy=True) if isinstance(content, Tensor) else content
