"""The boundary of a part that does not wait: steps are its own, and what has not come counts as lost.

A message is read at the step at which it is taken from its queue, whatever step its sender was at. What comes back for it is
learned from at the step at which it arrives, or is given up. Where all parts are equally fast and nothing is late, lost or
dropped, all that is read is what lockstep reads over links of delay 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antiphon.engine.features.held_messages import HeldMessages
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.message import Message, StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.parts.boundary import Boundary, CutMessage, Exchange, Return, array_of

__all__ = ["FreeBoundary", "FreeFigures", "FreeSettings", "packed", "unpacked"]


@dataclass(frozen=True)
class FreeSettings:
    """Bounds of the free exchange.

    Attributes:
        queue: Messages of a channel that an aligned receiver may be behind; of more the oldest are dropped. Other receivers
            read the newest only.
        staleness: Steps after which a sender gives up what has not come back for a message.
    """

    queue: int = 8
    staleness: int = 1024


@dataclass
class FreeFigures:
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


@dataclass
class _Queued:
    """A message that has arrived and not been read.

    Attributes:
        stamp: The sender's step.
        incarnation: The sender's, when it sent.
        example: The step whose signals it was made from; -1: none.
        content: [rows, size].
        signals: Those that aligned receivers need.
    """

    stamp: int
    incarnation: int
    example: int
    content: Tensor
    signals: dict[str, Tensor]


_OF_WHOLE = -1
"""The incarnation of messages that were sent before a division into parts."""
Origin = tuple[int, int]
"""Stamp and incarnation of a sender."""


@dataclass
class _Receiver:
    """Who reads over cut channels.

    Attributes:
        agent: The agent, or stack.
        keys: Its cut channels, the one that it is aligned to first.
        aligned: Whether it works on the signals of the message it reads over the first of them.
    """

    agent: Agent
    keys: list[str]
    aligned: bool


class FreeBoundary(Boundary):
    """Enters messages when they come, and gives gradients back by the sender's own steps.

    Args:
        system: The part's, of stacks.
        elsewhere: By channel that is cut: the part that its other end is in.
        index: The part.
        signals: By channel: the names of the signals that travel with its messages (`aligned.travelling_signals`).
        settings: Bounds.

    Attributes:
        figures: Totals since the run began.
    """

    def __init__(
        self,
        system: System,
        elsewhere: Mapping[str, int],
        index: int,
        signals: Mapping[str, tuple[str, ...]],
        settings: FreeSettings | None = None,
    ) -> None:
        self.settings = settings or FreeSettings()
        self.figures = FreeFigures()
        self._signals = signals
        super().__init__(system, elsewhere, index, lookahead=1)
        for channel in self.sending.values():
            channel.ledger.slack += self.settings.staleness
        for channel in self.receiving.values():  # what has not come in time counts as lost
            ledger = channel.ledger
            ledger.held = ledger.held or HeldMessages(ledger.name, ledger.aligned)
        self._receivers = list(self._readers())

    def _readers(self) -> Iterator[_Receiver]:
        keys: dict[str, list[str]] = {}
        for key, channel in self.receiving.items():
            keys.setdefault(channel.receiver, []).append(key)
        for name, own in keys.items():
            agent = self.system.agents[name]
            first = [key for key in own if self.receiving[key].name == agent.align]
            yield _Receiver(agent, [*first, *(key for key in own if key not in first)], bool(first))

    def reset(self, step: int) -> None:
        """Begin at `step` from the state of a whole: what is in both halves' ledgers has been sent and arrived."""
        super().reset(step)
        self._queues: dict[str, list[_Queued]] = {key: [] for key in self.receiving}
        self._newest: dict[str, Origin] = {}
        """Per channel, of all that has arrived."""
        self._due: dict[tuple[str, int], Message] = {}
        """Messages that the schedule has not come to, by channel and own stamp."""
        self._origins: dict[tuple[str, int], Origin] = {}
        """By channel and own stamp: what filled it."""
        self._sent: dict[tuple[str, int], int] = {}
        """By channel and stamp: the incarnation that sent it, while something may come back."""
        for key, channel in self.receiving.items():
            open_ = [stamp for stamp, message in channel.ledger.messages.items() if message.finished is None]
            self._origins |= {(key, stamp): (stamp, _OF_WHOLE) for stamp in open_}
        for key, channel in self.sending.items():
            for stamp, message in channel.ledger.messages.items():
                if message.finished is None:
                    self._sent[key, stamp] = _OF_WHOLE

    # --- a step --------------------------------------------------------------------------------------------

    def waits_for(self, step: int) -> tuple[int, ...]:
        """Return the parts without whose messages the coming step cannot be taken: those that an agent is aligned to."""
        missing = {
            key: None
            for receiver in self._receivers
            if receiver.aligned and receiver.agent.clock.due(step) and self._match(receiver, step) is None
            for key in self._lacking(receiver, step)
        }
        return tuple(sorted({self._part_of[key] for key in missing}))

    def enter(self, step: int, step_signals: StepSignals) -> None:
        """Enter the messages that are read at `step`, and give up what has not come back for too long."""
        self._give_up(step)
        for key, channel in self.receiving.items():
            ledger = channel.ledger
            if ledger.sender.due(step):
                began = self.system.began if self.system.episode is not None else 0
                self._due[key, step] = ledger.enter(step, channel.zeros, step_signals, began)
        for receiver in self._receivers:
            found = self._match(receiver, step) if receiver.aligned else None
            for key in receiver.keys:
                self._fill_due(key, step, None if found is None else found.get(key))

    def _reads(self, key: str, step: int) -> bool:
        """Whether the schedule has a message that reaches its receiver at `step` and has still to come."""
        return (key, step - self.receiving[key].ledger.link.delay) in self._due

    def _match(self, receiver: _Receiver, step: int) -> dict[str, _Queued] | None:
        """What an aligned receiver reads at `step`: the oldest example that has come over all of its cut channels.

        Where the queue of the channel that it is aligned to is full, its oldest message alone; None: it has to wait.
        """
        keys = [key for key in receiver.keys if self._reads(key, step)]
        if receiver.keys[0] not in keys:
            return {}
        first, *rest = keys
        for own in self._queues[first]:
            found = {first: own}
            for key in rest:
                same = next((other for other in self._queues[key] if other.example == own.example), None)
                if same is not None:
                    found[key] = same
            if len(found) == 1 + len(rest):
                return found
        queue = self._queues[first]
        return {first: queue[0]} if len(queue) >= self.settings.queue else None

    def _lacking(self, receiver: _Receiver, step: int) -> Iterable[str]:
        keys = [key for key in receiver.keys if self._reads(key, step)]
        empty = [key for key in keys if not self._queues[key]]
        return empty or keys

    def _fill_due(self, key: str, step: int, chosen: _Queued | None) -> None:
        """Fill the message that reaches its receiver at `step` with what has come; without, it is lost."""
        ledger = self.receiving[key].ledger
        stamp = step - ledger.link.delay
        placeholder = self._due.pop((key, stamp), None)
        if placeholder is None:
            return
        if placeholder.unread:
            ledger.fill(placeholder, None)
            return
        queue = self._queues[key]
        if chosen is None and queue and not ledger.aligned:
            chosen = queue[-1]
        if chosen is None:
            self.figures.missed += 1
            ledger.fill(placeholder, None)
            return
        place = queue.index(chosen)
        self.figures.dropped += place
        del queue[: place + 1]
        signals = StepSignals(chosen.example, chosen.signals) if key in self._signals else None
        ledger.fill(placeholder, chosen.content, signals)
        assert ledger.held is not None
        if not ledger.remembers:
            ledger.held.keep(placeholder)
        self._origins[key, stamp] = chosen.stamp, chosen.incarnation

    def _give_up(self, step: int) -> None:
        for key, channel in self.sending.items():
            ledger = channel.ledger
            for stamp, message in list(ledger.messages.items()):
                if message.finished is None and stamp + self.settings.staleness < step:
                    self.figures.given_up += 1
                    self._sent.pop((key, stamp), None)
                    ledger.give_back(stamp, step, False, None, None)

    def note(self, step: int, incarnation: int) -> None:
        """Note what other parts are to have of `step`, which has been learned from, in this incarnation of the part."""
        for key, channel in self.sending.items():
            if not channel.ledger.sender.due(step):
                continue
            message = channel.ledger.messages[step]
            own = message.step_signals
            wanted = (name for signal in self._signals.get(key, ()) for name in (signal, f"_{signal}"))
            signals = {name: array_of(own.signals[name]) for name in wanted if name in own.signals}
            messages, _ = self._outgoing[self._part_of[key]]
            messages.append(CutMessage(key, step, array_of(message.received), own.step, signals))
            if not message.unread:
                self._sent[key, step] = incarnation
        for key, channel in self.receiving.items():
            _, returns = self._outgoing[self._part_of[key]]
            for message in channel.ledger.messages.values():
                if message.finished == step and (key, message.stamp) in self._origins:
                    stamp, incarnation = self._origins.pop((key, message.stamp))
                    returns.append(Return.of_message(key, message, stamp, incarnation))

    # --- between parts -------------------------------------------------------------------------------------

    def deliver(self, exchange: Exchange, now: int) -> None:
        """Take what a neighbour has sent, in whatever order it comes; `now`: the step that this part comes to next."""
        self.covered[exchange.sender] = max(exchange.end, self.covered[exchange.sender])
        for message in exchange.messages:
            self._queue(message, exchange.incarnation)
        for one in exchange.returns:
            self._give_back(one, now)

    def _queue(self, message: CutMessage, incarnation: int) -> None:
        key, origin = message.channel, (message.stamp, incarnation)
        age = (incarnation, message.stamp)
        queue, aligns = self._queues[key], self._aligns(key)
        stamp, newest = self._newest.get(key, (-1, -1))
        if age > (newest, stamp):
            self._newest[key] = origin
        elif not aligns:
            self.figures.dropped += 1  # a newer one has overtaken it
            return
        signals = {name: self._tensor(value) for name, value in message.signals.items()}
        example = message.stamp if message.example is None else message.example
        queued = _Queued(*origin, example, self._tensor(message.content), signals)
        queue.append(queued)
        queue.sort(key=lambda one: (one.incarnation, one.stamp))
        surplus = len(queue) - (self.settings.queue if aligns else 1)
        if surplus > 0:
            del queue[:surplus]
            self.figures.dropped += surplus

    def _aligns(self, key: str) -> bool:
        """Whether the messages of a channel are read in turn, because its receiver is aligned."""
        return any(receiver.aligned and key in receiver.keys for receiver in self._receivers)

    def _give_back(self, one: Return, now: int) -> None:
        ledger = self.sending[one.channel].ledger
        if self._sent.get((one.channel, one.stamp)) != one.incarnation:
            return  # given up, or of a message that the part has not sent since it was restarted
        del self._sent[one.channel, one.stamp]
        self.figures.returned += 1
        self.figures.staleness += now - one.stamp
        gradient, loss = (None if v is None else self._tensor(v) for v in (one.gradient, one.loss))
        ledger.give_back(one.stamp, now - ledger.back, self._mask(one.counted), gradient, loss)

    # --- state ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what is under way; what is to be sent must have been collected."""
        return {
            "queues": {key: [vars(queued) for queued in queue] for key, queue in self._queues.items()},
            "newest": {key: list(origin) for key, origin in self._newest.items()},
            "due": [list(key) for key in self._due],
            "origins": [[*key, *origin] for key, origin in self._origins.items()],
            "sent": [[*key, incarnation] for key, incarnation in self._sent.items()],
            "collected": [list(item) for item in self._collected.items()],
            "covered": [list(item) for item in self.covered.items()],
            "figures": asdict(self.figures),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what was under way, once the ledgers have been loaded; its tensors are used as they are."""
        self._queues = {key: [_Queued(**own) for own in queue] for key, queue in state["queues"].items()}
        self._newest = {key: (stamp, incarnation) for key, (stamp, incarnation) in state["newest"].items()}
        self._due = {(key, stamp): self.receiving[key].ledger.messages[stamp] for key, stamp in state["due"]}
        self._origins = {
            (key, own): (stamp, incarnation) for key, own, stamp, incarnation in state["origins"]
        }
        self._sent = {(key, stamp): incarnation for key, stamp, incarnation in state["sent"]}
        self._collected = dict(map(tuple, state["collected"]))
        self.covered = dict(map(tuple, state["covered"]))
        self.figures = FreeFigures(**state["figures"])


def packed(exchange: Exchange) -> dict[str, Any]:
    """Return an exchange as plain data and tensors, for a checkpoint."""
    return {
        **vars(exchange),
        "messages": [_tensors(vars(message)) for message in exchange.messages],
        "returns": [_tensors(vars(one)) for one in exchange.returns],
    }


def unpacked(state: Mapping[str, Any]) -> Exchange:
    """Return the exchange that `packed` was given."""
    messages = [CutMessage(**_arrays(own)) for own in state["messages"]]
    returns = [Return(**_arrays(own)) for own in state["returns"]]
    return Exchange(**{**state, "messages": messages, "returns": returns})


def _tensors(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tensors(item) for key, item in value.items()}
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _arrays(item) for key, item in value.items()}
    return value.cpu().numpy() if isinstance(value, Tensor) else value
