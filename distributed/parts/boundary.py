"""The boundary of a part: what crosses its cut, in both directions (semantics 43); in lockstep, where it waits for what it reads.

In parts that do not wait: `free_boundary.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from antiphon.base.errors import EngineError
from antiphon.comms.links import Link, levels_of
from antiphon.distributed.parts.cut import CutChannels
from antiphon.distributed.parts.exchange import CutMessage, Exchange, Return, as_sent
from antiphon.distributed.parts.packing import pack
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.signals import StepSignals

Origin = tuple[int, int]
"""Incarnation and stamp of a sender."""


class Boundary(ABC):
    """Notes what neighbours are to have of each step, and has what they send arrive.

    A subclass says which message what has arrived fills, which gradient of a sender is returned, and what a step waits for.
    """

    def __init__(self, cut: CutChannels) -> None:
        self._cut = cut
        self._outgoing: dict[int, tuple[list[CutMessage], list[Return]]] = {}
        self._collected: dict[int, int] = {}
        """By neighbour: the step up to which it has been handed all."""

    def reset(self, step: int) -> None:
        """Forget what is on its way: all that was sent before `step` has arrived."""
        neighbours = self._cut.neighbours
        self._outgoing = {neighbour: ([], []) for neighbour in neighbours}
        self._collected = dict.fromkeys(neighbours, step)
        self._cut.reset(step)

    @abstractmethod
    def waits_for(self, step: int) -> tuple[int, ...]:
        """Return the neighbours without whose exchanges `step` cannot be taken."""

    @abstractmethod
    def fill_arrived(self, step: int) -> None:
        """Fill the messages that are read at `step`."""

    @abstractmethod
    def origin(self, key: str, message: Message) -> Origin | None:
        """Return the message of the sender to which what a message has returned is given back; None: to none."""

    @abstractmethod
    def deliver(self, exchange: Exchange, now: int) -> None:
        """Take what a neighbour has sent; `now`: the step that this part comes to next."""

    def enter(self, step: int, step_signals: StepSignals) -> None:
        """Enter the messages that other parts send at `step`; before agents tick.

        Raises:
            EngineError: What is to be read at this step has not arrived.
        """
        self._cut.enter(step, step_signals)
        self.fill_arrived(step)

    def note(self, step: int, incarnation: int) -> None:
        """Note what other parts are to have of `step`, which has been learned from, in this incarnation of the part."""
        cut = self._cut
        for key, channel in cut.sending.items():
            if channel.endpoints.sender_rows is not None:
                channel.endpoints.sender_rows.free_graph()
            if channel.ledger.timetable.sender_clock.ticks_at(step):
                message = channel.ledger.messages[step]
                messages, _ = self._outgoing[cut.part_of[key]]
                messages.append(self._crossing(key, message))
        for key, channel in cut.receiving.items():
            _, returns = self._outgoing[cut.part_of[key]]
            for message in channel.ledger.messages.values():
                if message.finished_at == step and (origin := self.origin(key, message)) is not None:
                    returns.append(Return.of_message(key, message, *origin))

    def _crossing(self, key: str, message: Message) -> CutMessage:
        """Return a message as it crosses, with the signals that it was made from where its receiver lacks them."""
        cut, step_signals, signals = self._cut, message.step_signals, None
        if key in cut.signals and not cut.has_seen(step_signals):
            needed = (name for signal in cut.signals[key] for name in (signal, f"_{signal}"))
            signals = {
                name: as_sent(step_signals.signals[name]) for name in needed if name in step_signals.signals
            }
        content, largest = _on_line(message, cut.sending[key].ledger.link)
        return CutMessage(key, message.stamp, content, step_signals.step, signals, largest)

    def collect(self, neighbour: int, end: int, incarnation: int) -> Exchange:
        """Return what a neighbour has not been handed yet of the steps before `end`."""
        messages, returns = self._outgoing[neighbour]
        self._outgoing[neighbour] = [], []
        first, self._collected[neighbour] = self._collected[neighbour], end
        return Exchange(self._cut.index, incarnation, first, end, messages, returns)

    def state_dict(self) -> dict[str, Any]:
        """Return how far exchanges are; what is to be sent must have been collected."""
        progress = {"collected": self._collected, "covered": self._cut.covered}
        return {name: [list(item) for item in steps.items()] for name, steps in progress.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._collected, self._cut.covered = dict(state["collected"]), dict(state["covered"])


class LockstepBoundary(Boundary):
    """Each message is filled with its own content, before it is read; what comes back is known when it is due.

    Args:
        lookahead: Steps that it may be ahead of what its neighbours have sent.
    """

    def __init__(self, cut: CutChannels, lookahead: int) -> None:
        super().__init__(cut)
        self._lookahead = lookahead
        self._early: dict[tuple[str, int], CutMessage] = {}
        """What has arrived and is not in its message yet."""
        self.reset(0)

    def reset(self, step: int) -> None:
        super().reset(step)
        self._early.clear()

    def waits_for(self, step: int) -> tuple[int, ...]:
        return tuple(n for n, end in self._cut.covered.items() if end <= step - self._lookahead)

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

    def origin(self, key: str, message: Message) -> Origin | None:
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


def _on_line(message: Message, link: Link) -> tuple[Tensor, Tensor | None]:
    """Return the content of a message as it crosses, and the largest magnitudes where that is its levels."""
    if link.in_levels:
        assert link.bits is not None
        level, largest = levels_of(message.sent_value, link.bits)
        if bool(largest.isfinite().all()):  # else there are no levels, and some step diverges
            return as_sent(pack(level, link.bits)), as_sent(largest)
    return as_sent(message.carried_value), None
