"""The boundary of a part: what crosses the channels that are cut (semantics 43).

Both halves of a cut channel keep the channel's ledger by the same schedule. The receiving half enters a message at the step
at which the other half sends, and what arrives fills it before it is read; the sending half is given back what the other
half's windows have returned before it is due. So each half has, of what it reads, what an uncut channel has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from antiphon.base.errors import EngineError
from antiphon.comms.links import Link, levels_of, of_levels
from antiphon.distributed.parts.exchange import CutMessage, Exchange, Return, as_sent
from antiphon.distributed.parts.ledger import enter, fill, give_back
from antiphon.engine.heart.lives import absent_ends
from antiphon.engine.heart.message import Message, StepSignals
from antiphon.engine.heart.system import System

Origin = tuple[int, int]
"""Incarnation and stamp of a sender."""


class Boundary:
    """Enters, fills and gives back the messages of the cut channels of one part.

    Args:
        system: The part's, of stacks.
        elsewhere: By channel that is cut: the part that its other end is in.
        index: The part.
        signals: By cut channel: the names of the signals that travel with its messages (`aligned`).
        lookahead: Steps that it may be ahead of what its neighbours have sent.

    Attributes:
        covered: By neighbour: the step up to which what it sent has arrived.
    """

    def __init__(
        self,
        system: System,
        elsewhere: Mapping[str, int],
        index: int,
        signals: Mapping[str, tuple[str, ...]],
        lookahead: int,
    ) -> None:
        self.system, self.index, self.lookahead = system, index, lookahead
        cut = [channel for channel in system.channels.values() if channel.names[0] in elsewhere]
        self.neighbours = tuple(sorted({elsewhere[channel.names[0]] for channel in cut}))
        self.sending = {c.names[0]: c for c in cut if c.sender in system.agents}
        self.receiving = {c.names[0]: c for c in cut if c.receiver in system.agents}
        self._part_of, self._signals = elsewhere, signals
        self._due: dict[tuple[str, int], Message] = {}
        """Messages whose content is missing, by channel and stamp."""
        self._early: dict[tuple[str, int], CutMessage] = {}
        """What has arrived and is not in its message yet."""
        self._outgoing: dict[int, tuple[list[CutMessage], list[Return]]] = {}
        for channel in self.sending.values():
            # What is returned may take so much longer to be known here; and what arrives is held elsewhere.
            channel.ledger.slack += max(channel.ledger.back, channel.ledger.link.delay) + 1
            channel.ledger.held = None
        self.reset(0)

    def reset(self, step: int) -> None:
        """Forget what is on its way: all that was sent before `step` has arrived."""
        self._early.clear()
        self._due.clear()
        self._outgoing = {neighbour: ([], []) for neighbour in self.neighbours}
        self._collected = dict.fromkeys(self.neighbours, step)
        self.covered = dict.fromkeys(self.neighbours, step)
        # A synthetic gradient is where its sender is, a synthetic input where its receiver is.
        for channel in self.receiving.values():
            if channel.gradient.model is not None:
                channel.gradient.disable(torch.ones(len(channel.members), dtype=torch.bool))
        for channel in self.sending.values():
            if channel.input.model is not None:
                channel.input.disable(torch.ones(len(channel.members), dtype=torch.bool))

    # --- a step --------------------------------------------------------------------------------------------

    def waits_for(self, step: int) -> tuple[int, ...]:
        """Return the neighbours whose exchanges `step` needs and has not got."""
        return tuple(n for n, end in self.covered.items() if end <= step - self.lookahead)

    def enter(self, step: int, step_signals: StepSignals) -> None:
        """Enter the messages that other parts send at `step`; before agents tick.

        Raises:
            EngineError: What is to be read at this step has not arrived.
        """
        for key, channel in self.receiving.items():
            if channel.ledger.sender.due(step):
                void, began = absent_ends(channel, step_signals), self.system.began
                self._due[key, step] = enter(
                    channel.ledger, step, channel.zeros, step_signals, began=began, void=void
                )
        self._fill_due(step)

    def _fill_due(self, step: int) -> None:
        """Fill the messages whose content has arrived; none that is read at `step` may be without."""
        for key, stamp in self._due.keys() & self._early.keys():
            self._fill(self._due.pop((key, stamp)), self._early.pop((key, stamp)))
        for (name, stamp), message in self._due.items():
            if message.first_use is not None and message.first_use <= step:
                raise EngineError(
                    f"part {self.index}: the message of step {stamp} over {name} has not arrived when it is read at {step}"
                )

    def _fill(self, placeholder: Message, arrived: CutMessage) -> None:
        """Put what has arrived in place of a placeholder."""
        signals = None
        if arrived.channel in self._signals:
            each = {name: self._tensor(value) for name, value in arrived.signals.items()}
            signals = StepSignals(arrived.example, each)
        ledger, content = self.receiving[arrived.channel].ledger, self._tensor(arrived.content)
        if arrived.largest is not None:
            assert ledger.link.bits is not None
            largest = self._tensor(arrived.largest)
            level = content.to(largest.dtype) + (1 << ledger.link.bits - 1)
            content = of_levels(level, largest, ledger.link.bits)
        fill(placeholder, content, signals)

    def note(self, step: int, incarnation: int) -> None:
        """Note what other parts are to have of `step`, which has been learned from, in this incarnation of the part."""
        for key, channel in self.sending.items():
            if channel.places.family is not None:
                channel.places.family.release()
            if channel.ledger.sender.due(step):
                self._send(key, channel.ledger.messages[step], incarnation)
        for key, channel in self.receiving.items():
            _, returns = self._outgoing[self._part_of[key]]
            for message in channel.ledger.messages.values():
                if message.finished == step and (origin := self._origin(key, message)) is not None:
                    returns.append(Return.of_message(key, message, *origin))

    def _send(self, key: str, message: Message, incarnation: int) -> None:
        """Note that a message is to cross, and the signals that it was made from where they travel with it."""
        del incarnation  # in lockstep what is sent again is the same
        own = message.step_signals
        wanted = (name for signal in self._signals.get(key, ()) for name in (signal, f"_{signal}"))
        signals = {name: as_sent(own.signals[name]) for name in wanted if name in own.signals}
        messages, _ = self._outgoing[self._part_of[key]]
        content, largest = _on_line(message, self.sending[key].ledger.link)
        messages.append(CutMessage(key, message.stamp, content, own.step, signals, largest))

    def _origin(self, key: str, message: Message) -> Origin | None:
        """Which message of the sender is given back; None: nothing is."""
        del key
        return None if message.unread else (0, message.stamp)

    # --- between parts -------------------------------------------------------------------------------------

    def collect(self, neighbour: int, end: int, incarnation: int) -> Exchange:
        """Return what a neighbour has not been handed yet of the steps before `end`."""
        messages, returns = self._outgoing[neighbour]
        self._outgoing[neighbour] = [], []
        first, self._collected[neighbour] = self._collected[neighbour], end
        return Exchange(self.index, incarnation, first, end, messages, returns)

    def deliver(self, exchange: Exchange, now: int) -> None:
        """Take what a neighbour has sent; `now`: the step that this part comes to next.

        Raises:
            EngineError: It is not the next of that neighbour.
        """
        expected = self.covered[exchange.sender]
        if exchange.first != expected:
            raise EngineError(
                f"part {self.index}: part {exchange.sender} sent the steps from {exchange.first} on, not from {expected} on"
            )
        self.covered[exchange.sender] = exchange.end
        for message in exchange.messages:
            key = message.channel, message.stamp
            if key in self._due or message.stamp >= now:
                self._early[key] = message
        self._fill_due(now - 1)
        for one in exchange.returns:
            self._give_back(one, one.finished)

    def _give_back(self, one: Return, finished: int) -> None:
        """Enter what has come back for a message, finished at a step."""
        returned = (self._tensor(value) for value in (one.counted, one.gradient, one.loss))
        give_back(self.sending[one.channel].ledger, one.stamp, finished, *returned)

    def _tensor(self, content: Any) -> Any:
        """A tensor as one of its own on the part's device; anything else as it is."""
        return content.to(self.system.device, copy=True) if isinstance(content, Tensor) else content


def _on_line(message: Message, link: Link) -> tuple[Tensor, Tensor | None]:
    """Return the content of a message as it crosses, and the largest magnitudes where that is its levels."""
    if link.in_levels:
        assert link.bits is not None
        level, largest = levels_of(message.sent, link.bits)
        if bool(largest.isfinite().all()):  # else there are no levels, and some step diverges
            whole = torch.int8 if link.bits <= 8 else torch.int16
            return as_sent((level - (1 << link.bits - 1)).to(whole)), as_sent(largest)
    return as_sent(message.received), None
