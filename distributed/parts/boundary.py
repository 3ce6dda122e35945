"""The boundary of a part: what crosses its cut, in both directions, and in lockstep where it waits for it (semantics 43).

Of parts that do not wait: `free_boundary.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from antiphon.base.errors import EngineError, RunError
from antiphon.comms.backward_requests import constant
from antiphon.comms.links import Link, levels_of
from antiphon.distributed.parts.cut import CutChannels, CutMessage, Return
from antiphon.distributed.parts.packing import pack
from antiphon.engine.heart.ends import Received, Sent
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.state.packing import from_bytes


@dataclass(frozen=True)
class Exchange:
    """What a part has for a neighbour of the steps [first, end): plain data and tensors on the CPU, or nothing.

    Attributes:
        first: The first step that it covers.
        end: The step after the last.
    """

    sender: int
    first: int
    end: int
    messages: list[CutMessage] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of its contents as they cross."""
        leaves = tree_leaves([vars(entry) for entry in (*self.messages, *self.returns)])
        return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))

    @property
    def tree(self) -> list[Any]:
        """Its fields in order, as they cross and as checkpoints have them."""
        contents = [[[*vars(entry).values()] for entry in some] for some in (self.messages, self.returns)]
        return [self.sender, self.first, self.end, *contents]

    @classmethod
    def of_tree(cls, tree: list[Any]) -> Self:
        """Return the exchange of its fields in order."""
        sender, first, end, messages, returns = tree
        crossing, back = [CutMessage(*fields) for fields in messages], [Return(*fields) for fields in returns]
        return cls(int(sender), int(first), int(end), crossing, back)

    @classmethod
    def decoded(cls, content: bytes) -> Self:
        """Return the exchange of the bytes of its tree (`engine/state/packing.py`)."""
        try:
            return cls.of_tree(from_bytes(content))
        except (ValueError, TypeError) as error:
            raise RunError(f"parts: the data received are not an exchange ({error})") from None


class Boundary(ABC):
    """Notes what neighbours are to have of each step, and has what they send arrive.

    A subclass says which message what has arrived fills, which message of a sender is given back, and what a step waits for.
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
    def origin(self, key: str, stamp: int) -> int | None:
        """Return the stamp of the sender's message to which what is returned for one is given back; None: to none."""

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

    def note(self, step: int) -> None:
        """Note what other parts are to have of `step`, which has been learned from."""
        cut = self._cut
        for key, channel in cut.sending.items():
            if channel.endpoints.sender_rows is not None:
                channel.endpoints.sender_rows.free_graph()
            if channel.wire.timetable.sender_clock.ticks_at(step):
                messages, _ = self._outgoing[cut.part_of[key]]
                messages.append(self._crossing(key, channel.wire.outbox.sent[step]))
        for key in cut.receiving:
            _, returns = self._outgoing[cut.part_of[key]]
            for returned in cut.wires[key].pop_returns():
                if (stamp := self.origin(key, returned.stamp)) is not None:
                    given_back = map(_as_sent, (returned.counted, returned.gradient, returned.loss))
                    returns.append(Return(key, stamp, step, *given_back))

    def _crossing(self, key: str, sent: Sent) -> CutMessage:
        """Return a message as it crosses, with the signals that it was made from where its receiver needs them."""
        signals, example = None, sent.signals
        if names := self._cut.signals.get(key):
            needed = (name for signal in names for name in (signal, f"_{signal}"))
            signals = {name: _as_sent(example.signals[name]) for name in needed if name in example.signals}
        content, largest = _on_line(sent, self._cut.wires[key].crossing, self._cut.wires[key].link)
        return CutMessage(key, sent.stamp, content, example.step, signals, largest)

    def collect(self, neighbour: int, end: int) -> Exchange:
        """Return what a neighbour has not been handed yet of the steps before `end`."""
        messages, returns = self._outgoing[neighbour]
        self._outgoing[neighbour] = [], []
        first, self._collected[neighbour] = self._collected[neighbour], end
        return Exchange(self._cut.index, first, end, messages, returns)

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
            if message.plan.first_tick is not None and message.plan.first_tick <= step:
                line = f"the message of step {stamp + 1} over {name} has not arrived when it is read at step {step + 1}"
                raise EngineError(f"part {self._cut.index}: {line}")

    def origin(self, key: str, stamp: int) -> int | None:
        return stamp

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
            cut.give_back(returned)


def _on_line(sent: Sent, received: Received, link: Link) -> tuple[Tensor, Tensor | None]:
    """Return the content of a message as it crosses, and the largest magnitudes where that is its levels."""
    if link.in_levels:
        assert link.bits is not None
        level, largest = levels_of(sent.value, link.bits)
        if bool(largest.isfinite().all()):  # else there are no levels, and some step diverges
            return _as_sent(pack(level, link.bits)), _as_sent(largest)
    return _as_sent(received.value), None


def _as_sent(value: Any) -> Any:
    """Return a copy of a tensor's numbers on the CPU; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return constant(value).cpu().clone(memory_format=torch.contiguous_format)
