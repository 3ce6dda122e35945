"""The boundary of a part: what crosses its cut, in both directions, and in lockstep where it waits for it (semantics 43).

Of parts that do not wait: `free_boundary.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from antiphon.base.errors import EngineError
from antiphon.comms.backward_requests import constant
from antiphon.comms.links import Link, levels_of, of_levels
from antiphon.distributed.parts.cut import CutMessage, CutWire, Exchange, Return, pack, unpack
from antiphon.engine.heart.ends import Received, Sent
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.nets.mask import ALL, Mask


class Boundary:
    """The halves of the cut channels of one part: what neighbours are to have of each step, and what they send.

    The sending half of a channel is an outbox, the receiving one an inbox; a `CutWire` keeps what crosses. The receiving half takes a
    message at the step at which the other half sends, and what arrives fills it before it is read; the sending half is given back what
    the other half's windows have returned before it is due. So each half has, of what it reads, what an uncut channel has.

    Args:
        part_of: By cut channel: the part that its other endpoint is in.
        signals: By cut channel: the names of the signals that travel with its messages (`travelling_signals`).
        lookahead: Steps that it may be ahead of what its neighbours have sent.

    Attributes:
        sending: The halves whose sender is here, as in `receiving`, by the first channel of their stack.
        unfilled_messages: Messages whose content is missing, by channel and stamp.
        covered: By neighbour: the step up to which what it sent has arrived.
    """

    def __init__(
        self,
        system: System,
        part_of: Mapping[str, int],
        index: int,
        signals: Mapping[str, tuple[str, ...]],
        lookahead: int,
    ) -> None:
        self.system = system
        self.index, self.part_of, self.signals, self._lookahead = index, part_of, signals, lookahead
        cut = [channel for channel in system.channels.values() if channel.member_names[0] in part_of]
        self.neighbours = tuple(sorted({part_of[channel.member_names[0]] for channel in cut}))
        self.sending = {c.member_names[0]: c for c in cut if c.sender in system.agents}
        self.receiving = {c.member_names[0]: c for c in cut if c.receiver in system.agents}
        self.wires = {channel.member_names[0]: CutWire.of(channel.wire) for channel in cut}
        for channel in cut:
            channel.wire = self.wires[channel.member_names[0]]
        self.reset(0)

    def reset(self, step: int) -> None:
        """Begin at `step`, without what is on its way: all that was sent before has arrived."""
        self._outgoing: dict[int, tuple[list[CutMessage], list[Return]]]
        self._outgoing = {neighbour: ([], []) for neighbour in self.neighbours}
        self._collected = dict.fromkeys(self.neighbours, step)
        """By neighbour: the step up to which it has been handed all."""
        self.covered = dict.fromkeys(self.neighbours, step)
        self.unfilled_messages: dict[tuple[str, int], Received] = {}
        self._early: dict[tuple[str, int], CutMessage] = {}
        """What has arrived and is not in its message yet."""

    def waits_for(self, step: int) -> tuple[int, ...]:
        return tuple(n for n, end in self.covered.items() if end <= step - self._lookahead)

    def fill_arrived(self, step: int) -> None:
        """Fill the messages whose content has arrived; EngineError: one that is read at `step` is without."""
        unfilled, early = self.unfilled_messages, self._early
        for key, stamp in unfilled.keys() & early.keys():
            self.fill(unfilled.pop((key, stamp)), early.pop((key, stamp)))
        for (name, stamp), message in unfilled.items():
            if message.plan.first_tick is not None and message.plan.first_tick <= step:
                line = f"the message of step {stamp + 1} over {name} has not arrived when it is read at step {step + 1}"
                raise EngineError(f"part {self.index}: {line}")

    def origin(self, key: str, stamp: int) -> int | None:
        """Return the stamp of the sender's message to which what is returned for one is given back; None: to none."""
        return stamp

    def deliver(self, exchange: Exchange, now: int) -> None:
        """Take what a neighbour has sent, the next that it has; `now`: the step that this part comes to next."""
        expected = self.covered[exchange.sender]
        if exchange.first != expected:
            raise EngineError(
                f"part {self.index}: part {exchange.sender} sent the steps from {exchange.first} on, not from {expected} on"
            )
        self.covered[exchange.sender] = exchange.end
        for message in exchange.messages:
            key = message.channel, message.stamp
            if key in self.unfilled_messages or message.stamp >= now:
                self._early[key] = message
        self.fill_arrived(now - 1)
        for returned in exchange.returns:
            self.give_back(returned)

    def enter(self, step: int, step_signals: StepSignals) -> None:
        """Take the messages that other parts send at `step`, with zeros in place of what has not come; before agents tick."""
        for key, channel in self.receiving.items():
            wire = channel.wire
            if wire.timetable.sender_clock.ticks_at(step):
                void, plan = channel.void_when_sent(step_signals), wire.timetable.read_plan(step)
                received = wire.carried(step, channel.content.zeros, step_signals, plan, void)
                wire.inbox.messages[step] = received
                self.unfilled_messages[key, step] = received
        self.fill_arrived(step)

    def note(self, step: int) -> None:
        """Note what other parts are to have of `step`, which has been learned from."""
        for key, channel in self.sending.items():
            if channel.endpoints.sender_rows is not None:
                channel.endpoints.sender_rows.free_graph()
            if channel.wire.timetable.sender_clock.ticks_at(step):
                messages, _ = self._outgoing[self.part_of[key]]
                messages.append(self._crossing(key, channel.wire.outbox.sent[step]))
        for key in self.receiving:
            _, returns = self._outgoing[self.part_of[key]]
            for returned in self.wires[key].pop_returns():
                if (stamp := self.origin(key, returned.stamp)) is not None:
                    given_back = map(_as_sent, (returned.counted, returned.gradient, returned.loss))
                    returns.append(Return(key, stamp, step, *given_back))

    def _crossing(self, key: str, sent: Sent) -> CutMessage:
        """Return a message as it crosses, with the signals that it was made from where its receiver needs them."""
        signals, example = None, sent.signals
        if names := self.signals.get(key):
            needed = (name for signal in names for name in (signal, f"_{signal}"))
            signals = {name: _as_sent(example.signals[name]) for name in needed if name in example.signals}
        content, largest = _on_line(sent, self.wires[key].crossing, self.wires[key].link)
        return CutMessage(key, sent.stamp, content, example.step, signals, largest)

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
        """Enter what has come back for a message; for `back_at` see `Outbox.take_returned`."""
        counted, gradient, loss = map(self._copied, (returned.counted, returned.gradient, returned.loss))
        outbox = self.sending[returned.channel].wire.outbox
        outbox.take_returned(
            returned.stamp, returned.finished, gradient, Mask.of(counted), loss, back_at=back_at
        )

    def _copied(self, content: Any) -> Any:
        return content.to(self.system.device, copy=True) if isinstance(content, Tensor) else content

    def collect(self, neighbour: int, end: int) -> Exchange:
        messages, returns = self._outgoing[neighbour]
        self._outgoing[neighbour] = [], []
        first, self._collected[neighbour] = self._collected[neighbour], end
        return Exchange(self.index, first, end, messages, returns)


def _on_line(sent: Sent, received: Received, link: Link) -> tuple[Tensor, Tensor | None]:
    """Return the content of a message as it crosses, and the largest magnitudes where that is its levels."""
    if link.bits is not None and not link.noisy:
        level, largest = levels_of(sent.value, link.bits)
        if bool(largest.isfinite().all()):  # else there are no levels, and some step diverges
            return _as_sent(pack(level, link.bits)), _as_sent(largest)
    return _as_sent(received.value), None


def _as_sent(value: Any) -> Any:
    """Return a copy of a tensor's numbers on the CPU; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return constant(value).cpu().clone(memory_format=torch.contiguous_format)
