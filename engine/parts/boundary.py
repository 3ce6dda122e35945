"""The boundary of a part: what crosses the channels that are cut (semantics 43).

Both halves of a cut channel keep the channel's ledger by the same schedule. The receiving half enters a message at the step
at which the other half sends, and what arrives fills it before it is read; the sending half is given back what the other
half's windows have returned before it is due. So each half has, of what it reads, what an uncut channel has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.message import Message, StepSignals
from antiphon.engine.heart.rows import RowMask
from antiphon.engine.heart.system import System
from antiphon.errors import EngineError

__all__ = ["Boundary", "CutMessage", "Exchange", "Return", "array_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class CutMessage:
    """A message that crosses: of all channels of one stack between two parts.

    Attributes:
        channel: The first of these channels.
        stamp: The step at which it was sent.
        content: [rows, size], as received.
        example: The step whose signals it was made from, -1: of none; None: the step at which it was sent.
        signals: Those that travel with it.
    """

    channel: str
    stamp: int
    content: Array
    example: int | None = None
    signals: Mapping[str, Array] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of its contents."""
        return int(self.content.nbytes + sum(value.nbytes for value in self.signals.values()))


@dataclass(frozen=True)
class Return:
    """What comes back for a message.

    Attributes:
        channel: The first of the channels of its stack.
        stamp: The step at which it was sent.
        finished: The step at which the last window that used it closed.
        counted: [rows] bool: where a use counted; or everywhere, or nowhere.
        gradient: [rows, size], per sample; None: nothing.
        loss: [rows]: its receiver's, for critics; None: nobody asks for it.
        incarnation: The sender's, when it sent the message; for parts that do not wait.
    """

    channel: str
    stamp: int
    finished: int
    counted: Array | bool
    gradient: Array | None
    loss: Array | None
    incarnation: int = 0

    @classmethod
    def of_message(cls, channel: str, message: Message, stamp: int, incarnation: int = 0) -> Self:
        """Return what a finished message gives back for the one that its sender sent at `stamp`."""
        assert message.finished is not None
        counted = message.counted if isinstance(message.counted, bool) else array_of(message.counted)
        gradient, loss = (None if v is None else array_of(v) for v in (message.gradient, message.loss))
        return cls(channel, stamp, message.finished, counted, gradient, loss, incarnation)

    @property
    def nbytes(self) -> int:
        """Bytes of its contents."""
        values: tuple[object, ...] = (self.counted, self.gradient, self.loss)
        return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


@dataclass(frozen=True)
class Exchange:
    """What a part has for a neighbour of the steps [first, end), plain data; a watermark, also where it is empty.

    Attributes:
        sender: The part that it comes from.
        incarnation: How many times that part has been started again.
        first: The first step that it covers.
        end: The step after the last.
        messages: Sent in these steps.
        returns: Finished in these steps.
    """

    sender: int
    incarnation: int
    first: int
    end: int
    messages: list[CutMessage] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of its contents."""
        contents: list[CutMessage | Return] = [*self.messages, *self.returns]
        return sum(one.nbytes for one in contents)


class Boundary:
    """Enters, fills and gives back the messages of the cut channels of one part.

    Args:
        system: The part's, of stacks.
        elsewhere: By channel that is cut: the part that its other end is in.
        index: The part.
        lookahead: Steps that it may be ahead of what its neighbours have sent.
    """

    def __init__(self, system: System, elsewhere: Mapping[str, int], index: int, lookahead: int) -> None:
        self.system, self.index, self.lookahead = system, index, lookahead
        cut = [channel for channel in system.channels.values() if channel.names[0] in elsewhere]
        self.neighbours = tuple(sorted({elsewhere[channel.names[0]] for channel in cut}))
        self.sending = {c.names[0]: c for c in cut if c.sender in system.agents}
        self.receiving = {c.names[0]: c for c in cut if c.receiver in system.agents}
        self._part_of = elsewhere
        self._early: dict[tuple[str, int], CutMessage] = {}
        """What has arrived of steps that this part has not come to, by channel and stamp."""
        self._missing: dict[tuple[str, int], Message] = {}
        """Messages whose content has not arrived."""
        self._outgoing: dict[int, tuple[list[CutMessage], list[Return]]] = {}
        for channel in self.sending.values():
            # What is returned may take so much longer to be known here; and what arrives is held elsewhere.
            channel.ledger.slack += max(channel.ledger.back, channel.ledger.link.delay) + 1
            channel.ledger.held = None
        self.reset(0)

    def reset(self, step: int) -> None:
        """Forget what is on its way: all that was sent before `step` has arrived."""
        self._early.clear()
        self._missing.clear()
        self._outgoing = {neighbour: ([], []) for neighbour in self.neighbours}
        self._collected = dict.fromkeys(self.neighbours, step)
        self.covered = dict.fromkeys(self.neighbours, step)
        """By neighbour: the step up to which what it sent has arrived."""
        # A synthetic gradient is where its sender is, a synthetic input where its receiver is.
        for channel in self.receiving.values():
            if channel.gradient.predictor is not None:
                channel.gradient.disable(range(len(channel.members)), len(channel.members))
        for channel in self.sending.values():
            if channel.input.model is not None:
                channel.input.disable(range(len(channel.members)), len(channel.members))

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
            ledger = channel.ledger
            if ledger.sender.due(step):
                began = self.system.began if self.system.episode is not None else 0
                placeholder = ledger.enter(step, channel.zeros, step_signals, began)
                arrived = self._early.pop((key, step), None)
                if arrived is None:
                    self._missing[key, step] = placeholder
                else:
                    self._fill(placeholder, arrived)
        late = [key for key, message in self._missing.items() if (message.first_use or step + 1) <= step]
        if late:
            name, stamp = late[0]
            raise EngineError(
                f"part {self.index}: the message of step {stamp} over {name} is read at {step}, not arrived"
            )

    def note(self, step: int, incarnation: int) -> None:
        """Note what other parts are to have of `step`, which has been learned from, in this incarnation of the part."""
        del incarnation  # in lockstep what is sent again is the same
        for key, channel in self.sending.items():
            if channel.places.family is not None:
                channel.places.family.release()
            if channel.ledger.sender.due(step):
                messages, _ = self._outgoing[self._part_of[key]]
                messages.append(self._crossing(key, channel.ledger.messages[step]))
        for key, channel in self.receiving.items():
            _, returns = self._outgoing[self._part_of[key]]
            for message in channel.ledger.messages.values():
                if message.finished == step and message.first_use is not None:
                    returns.append(Return.of_message(key, message, message.stamp))

    def _crossing(self, key: str, message: Message) -> CutMessage:
        """What crosses of a message that was sent; an aligned agent's signals are not those of the step at which it sends."""
        content, own = array_of(message.received), message.step_signals
        if self.system.agents[self.sending[key].sender].align is None:
            return CutMessage(key, message.stamp, content)
        signals = {name: array_of(value) for name, value in own.signals.items()}
        return CutMessage(key, message.stamp, content, own.step, signals)

    def _fill(self, placeholder: Message, arrived: CutMessage) -> None:
        """Put what has arrived in place of a placeholder."""
        signals = None
        if arrived.example is not None:
            each = {name: self._tensor(value) for name, value in arrived.signals.items()}
            signals = StepSignals(arrived.example, each)
        self.receiving[arrived.channel].ledger.fill(placeholder, self._tensor(arrived.content), signals)

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
                f"part {self.index}: from part {exchange.sender} came the steps from {exchange.first} on, not from {expected}"
            )
        self.covered[exchange.sender] = exchange.end
        for message in exchange.messages:
            key = message.channel, message.stamp
            placeholder = self._missing.pop(key, None)
            if placeholder is not None:
                self._fill(placeholder, message)
            elif message.stamp >= now:
                self._early[key] = message
        for one in exchange.returns:
            self.sending[one.channel].ledger.give_back(
                one.stamp,
                one.finished,
                self._mask(one.counted),
                None if one.gradient is None else self._tensor(one.gradient),
                None if one.loss is None else self._tensor(one.loss),
            )

    def _tensor(self, content: Array) -> Tensor:
        return torch.from_numpy(content.copy()).to(self.system.device)

    def _mask(self, counted: Array | bool) -> RowMask:
        return counted if isinstance(counted, bool) else self._tensor(counted)


def array_of(tensor: Tensor) -> Array:
    """Return a copy of a tensor's numbers."""
    return constant(tensor).cpu().numpy().copy()
