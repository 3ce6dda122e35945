"""The ends of channels: what was sent is in an outbox, what has come in an inbox, and a wire joins them (rules 17 to 20).

As a message is sent, its `Timetable` says which ticks of the receiver read it, and which windows must close before it
is finished. Losses and ends of episodes only decide in which environments its reads count. Between processes a wire
carries the same two calls, `deliver` and `give_back` (distributed/parts/cut.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from antiphon.comms.backward_requests import value_of
from antiphon.comms.links import Link
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.timetable import ReadPlan, Timetable
from antiphon.nets.mask import ALL, NONE, Mask, simplified
from antiphon.nets.step_numbers import stamp_number

if TYPE_CHECKING:
    from antiphon.comms.symbols import MessageSampler

NOT_SAVED = {"saved": False}
"""Of a field that no saved state has by itself: it can be made again of the others, or is part of what keeps it.

A saved state has every other field of what is kept between steps. A tensor has rows, [rows, …]: a stack is cut by them. A
number is the same for all members.
"""


@dataclass(slots=True, eq=False)
class Content:
    """The content of a channel's messages: from which port they are, in which shape, and how they are sampled."""

    port_name: str
    """The output of the sender's network that is sent."""
    shape: tuple[int, ...]
    """Shape of one message. It is flat, [rows, size], at the ends of channels (`value_of` flattens it) and in reads."""
    zeros: Tensor
    """[rows, size]: what a receiver reads before any message has come."""
    sampler: MessageSampler | None = None
    """Samples messages from the port's output (symbols); None: the output is the message."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


# --- messages ----------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Sent:
    """A message at its sender: where it may have credit, and what has come back for it."""

    stamp: int
    """The step at which it was sent."""
    value: Tensor
    """[rows, size], as it was sent, without its sender's graph."""
    signals: StepSignals
    """The signals that it was made from."""
    plan: ReadPlan
    sent_rows: Mask = ALL
    """Where it was sent at all, whatever the link did to it."""
    void: Mask = NONE
    """Where it was not sent, or its episode has ended since."""
    creditable: Mask = NONE
    """Where its sender may have credit: a read may be booked, and it was not void before a tick read it. An episode
    that ends at the step of the first such tick ends after it. `NONE`, and not a mask that holds nowhere, if there is
    no such row: then no zeros are injected either, by which momentum would move parameters."""
    ends: dict[str, Tensor] = field(default_factory=dict)
    """What its predictor is shown of the channel's ends, as it was when the message was sent, [rows, features]."""
    window_open: bool = True
    """Whether its sender's window may still inject into it."""
    finished_at: int | None = None
    """Step at which the last window that may read it closed; None: one is open. Without bookable reads, its stamp."""
    back_at: int | None = None
    """Step at which its gradient is back; None: none returns, or it is not finished."""
    returned: Tensor | None = None
    """[rows, size] per sample, summed over the reads that counted; zeros where none has."""
    loss: Tensor | None = None
    """[rows]: the loss of its receiver in the windows that read it, for critics."""
    counted: Mask = NONE
    """Where a read counted, or its gradient is known to be zero."""

    def is_pending(self, step: int) -> bool:
        """Return whether its gradient may still come back: in stage 2, what is finished at this step is pending (stage 3)."""
        if not self.plan.is_bookable:
            return False
        if self.back_at is not None:
            return self.back_at > step
        return self.finished_at is None or self.finished_at >= step

    def is_back(self, step: int) -> bool:
        return self.plan.is_bookable and self.back_at is not None and self.back_at <= step


@dataclass(slots=True, eq=False)
class Received:
    """A message at its receiver, and what the reads of it return."""

    stamp: int
    value: Tensor
    """[rows, size], as the link carries it, with its rounding and noise; also in rows that it loses."""
    signals: StepSignals
    plan: ReadPlan
    lost: Mask = NONE
    """Where the link lost it."""
    void: Mask = NONE
    """Where ticks read it as zeros from now on."""
    open_windows: set[int] = field(default_factory=set)
    """Windows of `ReadPlan.window_numbers` that have not closed."""
    gradient: Tensor | None = None
    """[rows, size]: what the windows that were learned from return so far; None: no gradient returns, or none reaches it."""
    loss: Tensor | None = None
    counted: Mask = NONE

    @property
    def missing(self) -> Mask:
        """Where a tick that reads it now does not get it."""
        return self.void if self.lost is NONE else self.void | self.lost

    def book(self, counted: Mask, gradient: Tensor | None) -> None:
        """Add a read where it `counted`, and what returns of its gradient."""
        self.counted |= counted
        if gradient is not None:
            self.gradient = gradient if self.gradient is None else self.gradient + gradient

    def add_loss(self, loss: Tensor) -> None:
        self.loss = loss if self.loss is None else self.loss + loss


@dataclass(slots=True, eq=False)
class Arrival:
    """What has reached a receiver's tick over a channel: the due message, or the value that stands in for it."""

    due: Received
    """The newest message that a perfect link would bring, or one of several (read mode)."""
    value: Tensor | None = None
    """[rows, size]; None: zeros."""
    available: Mask = NONE
    """Where the tick has a value to read; elsewhere `value` is of no meaning."""
    may_count: Mask = NONE
    """Where a read of it counts if the receiver learns; where an older message stands in, it never counts."""
    synthetic: Mask = NONE
    """Where a synthetic input stands in for the message."""
    signals: StepSignals | None = None
    """The signals that the value was made from; None: the message's own."""


# --- the sender's half -------------------------------------------------------------------------------------


@dataclass(eq=False)
class Outbox:
    """The sender's half: what was sent, until its window is done with it and nothing more can come back."""

    wire: Wire = field(metadata=NOT_SAVED)
    sent: dict[int, Sent] = field(default_factory=dict, metadata=NOT_SAVED)
    """By stamp."""
    back: dict[int, list[Sent]] = field(default_factory=dict, metadata=NOT_SAVED)
    """By step: the messages whose gradient is back then, until they are popped."""
    newest: Tensor | None = None
    """[rows, size]: the newest gradient that has come back, where the wire `keeps_returned`; zeros where none has in
    this episode."""
    newest_step: int = field(default=-1, metadata=NOT_SAVED)
    """The newest step at which any has."""

    def send(self, step: int, output: Tensor, signals: StepSignals, void: Mask = NONE) -> Sent:
        """Enter a message made at `step`, deliver it, and return it.

        Args:
            output: As its sender computes it, with its graph, [rows, …].
            void: Where it is void as it is sent (`Channel.void_when_sent`).
        """
        self._note_newest(self.back.get(step, ()), step)
        plan, value = self.wire.timetable.read_plan(step), value_of(output)
        sent = Sent(
            step,
            value,
            signals,
            plan,
            sent_rows=~void,
            void=void,
            creditable=~void if plan.is_bookable else NONE,
            window_open=not plan.stays_in_window,
            finished_at=None if plan.is_bookable else step,
        )
        self._delete_spent(step)
        self.sent[step] = sent
        self.wire.deliver(self.wire.carried(step, value, signals, plan, void))
        return sent

    def _delete_spent(self, step: int) -> None:
        """Delete what nothing will inject into, no tick to come reads, and for which nothing is on its way back."""
        newest_due = self.wire.timetable.newest_due(step)
        for stamp, sent in list(self.sent.items()):
            is_superseded = newest_due is not None and stamp < newest_due
            is_done = sent.finished_at is not None and not sent.window_open
            is_returning = sent.back_at is not None and sent.back_at >= step
            if is_superseded and is_done and not is_returning:
                del self.sent[stamp]

    def take_returned(
        self,
        stamp: int,
        finished_at: int,
        gradient: Tensor | None = None,
        counted: Mask = NONE,
        loss: Tensor | None = None,
        *,
        back_at: int | None = None,
    ) -> None:
        """Take over what comes back for a message that was finished at a step; without a gradient, nothing does.

        Args:
            back_at: The step at which it is back; None: as the timetable has it.
        """
        sent = self.sent[stamp]
        sent.finished_at, sent.counted, sent.loss = finished_at, counted, loss
        if gradient is not None:
            sent.returned = gradient
            self._return(sent, self.wire.timetable.back_from(finished_at) if back_at is None else back_at)

    def _return(self, sent: Sent, back_at: int) -> None:
        sent.back_at = back_at
        self.back.setdefault(back_at, []).append(sent)

    def pop_returned(self, step: int) -> list[Sent]:
        """Remove and return the messages whose gradient is back at `step`; a second call returns none."""
        back = [sent for sent in self.back.pop(step, ()) if sent.back_at == step]
        self._note_newest(back, step)
        return back

    def _note_newest(self, back: Sequence[Sent], step: int) -> None:
        """Take over the gradients that are back at a step, once."""
        if not self.wire.keeps_returned or not back or step == self.newest_step:
            return
        self.newest_step = step
        for sent in back:
            assert sent.returned is not None
            # where nothing has come back for this message, the gradient before stays the newest
            own, before = sent.returned, self.newest
            newest = sent.counted.zero_elsewhere(own) if before is None else sent.counted.where(own, before)
            self.newest = (~sent.void).zero_elsewhere(newest)

    def end_episodes(self, step: int, ended: Mask) -> None:
        """Void all messages, and forget what has come back, where an episode ended with `step` (rule 20)."""
        for sent in self.sent.values():
            sent.void = simplified(sent.void | ended)
            if sent.plan.is_bookable and (sent.plan.first_tick or 0) > step:
                sent.creditable = ~simplified(~sent.creditable | ended)
        if self.newest is not None:
            self.newest = (~ended).zero_elsewhere(self.newest)

    def return_zeros_for_last_state(self, step: int, terminated: Mask) -> None:
        """Return zeros for the state that an episode ended with for good: no loss depends on it (rule 20).

        Episodes end in stage 1 of `Engine.learn`; what returns here is popped in stage 4 of the same step.
        """
        stamp = self.wire.timetable.sender_clock.latest(step)
        last = None if stamp is None else self.sent.get(stamp)
        rows = NONE if last is None else terminated & ~last.void
        if last is None or not rows.anywhere:
            return
        if last.plan.is_bookable:
            self.wire.inbox.messages[last.stamp].counted |= rows
        else:
            # its predictor learns from a copy: the same state may be the last one of other rows at a later step
            example = replace(last, finished_at=step, counted=rows, returned=torch.zeros_like(last.value))
            self._return(example, step)


# --- the receiver's half -----------------------------------------------------------------------------------


@dataclass(eq=False)
class Inbox:
    """The receiver's half: what has come, and what goes back once the last window that may read it has closed."""

    wire: Wire = field(metadata=NOT_SAVED)
    holds: bool = field(metadata=NOT_SAVED)
    """Whether it holds the newest arrival, row by row: messages may be lost, or a synthetic input is conditioned on it."""
    messages: dict[int, Received] = field(default_factory=dict, metadata=NOT_SAVED)
    """Messages by stamp."""
    held_value: Tensor | None = None
    """[rows, size]: the held message; None: none has been held yet."""
    held_stamp: Tensor | None = None
    """[rows]: its stamp; -1: none is held."""
    held_signals: dict[str, Tensor] = field(default_factory=dict)
    """The signals that it was made from, where the receiver is aligned."""
    prior_value: Tensor | None = None
    """[rows, size]: what was held before the newest due message; where that was lost, it is the held one still."""
    prior_stamp: Tensor | None = None
    newest_due_seen: int = -1
    """The stamp of the newest message that was due, arrived or not."""

    def read(self, step: int) -> list[Arrival]:
        """Return the arrivals that the receiver's tick at `step` reads, oldest first; empty before the first message.

        There are several only by read mode. In rows in which the newest one is lost, the held message stands in for it.
        """
        due = [received for received in self.messages.values() if step in received.plan.ticks]
        if not due:
            return []
        *earlier, newest = due
        arrivals = [*map(_arrival_of, earlier)]
        if not self.holds or (newest.lost is NONE and not self.wire.holds_all):
            return [*arrivals, _arrival_of(newest)]
        self._hold(newest, step)
        return [*arrivals, self._held_arrival(newest, due[0].stamp)]

    def _hold(self, due: Received, step: int) -> None:
        """Hold the due message; where it has not arrived, the newest one before it that has. Its first tick does."""
        if due.stamp <= self.newest_due_seen:
            return
        if self.held_value is None or self.held_stamp is None:
            self.held_value = torch.zeros_like(due.value)
            self.held_stamp = torch.full((len(due.value),), -1, device=due.value.device)
        for received in sorted(self.messages.values(), key=lambda received: received.stamp):
            has_come = self.wire.timetable.arrival_of(received.stamp) <= step
            if has_come and self.newest_due_seen < received.stamp < due.stamp:
                self._hold_arrived(received)
        self.prior_value, self.prior_stamp = self.held_value, self.held_stamp
        self._hold_arrived(due)
        self.newest_due_seen = due.stamp

    def _hold_arrived(self, received: Received) -> None:
        missing = received.missing
        if missing is ALL or self.held_value is None or self.held_stamp is None:
            return
        stamp = torch.zeros_like(self.held_stamp) + stamp_number(received.stamp)
        if self.wire.aligned:
            self.held_signals = merged_signals(~missing, received.signals.signals, self.held_signals)
        self.held_value = missing.where(self.held_value, received.value)
        self.held_stamp = missing.where(self.held_stamp, stamp)

    def hold_all_of(self, received: Received) -> None:
        """Hold a message in all rows, for ticks that find no newer one: from another part, any may come too late."""
        if received.lost is NONE:
            rows = torch.zeros(len(received.value), dtype=torch.int64, device=received.value.device)
            self.held_value, self.held_stamp = received.value, rows + stamp_number(received.stamp)
            self.held_signals = dict(received.signals.signals) if self.wire.aligned else {}
            self.newest_due_seen = received.stamp

    def _held_arrival(self, due: Received, oldest_stamp: int) -> Arrival:
        """The due message where it has arrived, else the held one, but for those from `oldest_stamp` on, read by themselves."""
        assert self.held_value is not None
        assert self.held_stamp is not None
        held_rows = self.held_stamp >= 0
        if oldest_stamp < due.stamp:
            held_rows &= (self.held_stamp < oldest_stamp) | (self.held_stamp == due.stamp)
        available = Mask.of(held_rows)
        may_count = Mask.of(self.held_stamp == stamp_number(due.stamp), self._known_to_arrive(due))
        signals = self._held_signals(due, available) if self.wire.aligned else None
        return Arrival(due, self.held_value, available, may_count=may_count, signals=signals)

    def _known_to_arrive(self, due: Received) -> bool | None:
        """Whether a message arrives in any row, as far as the host knows; None: a look at its mask shows it, as on a CPU."""
        if due.lost is NONE or due.value.device.type == "cpu" or self.wire.timetable.slots > 1:
            return None
        lost_everywhere = self.wire.link.lost(due.stamp, len(due.value), "cpu").everywhere
        return False if lost_everywhere else (~due.void).known_anywhere

    def _held_signals(self, due: Received, available: Mask) -> StepSignals:
        """The signals of the held messages, whose steps may differ by environment; absent where none is held."""
        signals = {name: value for name, value in self.held_signals.items() if not name.startswith("_")}
        rows = available.tensor(len(due.value), due.value.device)
        present = {
            f"_{name}": available.zero_elsewhere(self.held_signals.get(f"_{name}", rows)) for name in signals
        }
        return StepSignals(due.stamp, signals | present)

    def close(self, window_number: int, step: int) -> None:
        """Close a window of the receiver: at `step` it was learned from, skipped, or ended without a tick.

        If it was the last that may read a message, what was booked goes back: of a read that counted zeros, where no
        loss depends on the message.
        """
        for received in list(self.messages.values()):
            if window_number not in received.open_windows:
                continue
            received.open_windows.discard(window_number)
            if received.open_windows:
                continue
            counted = received.counted if received.counted.anywhere else NONE
            gradient = None
            if counted is not NONE and self.wire.returns_gradients:
                booked = received.gradient
                gradient = torch.zeros_like(received.value) if booked is None else booked
            self.wire.give_back(received.stamp, step, gradient, counted, received.loss)

    def delete_spent(self, step: int) -> None:
        """Delete the messages that no tick will read or hold; agents have ticked at `step`."""
        newest_due = self.wire.timetable.newest_due(step)
        keeps_later = self.holds and (self.wire.link.loses or self.wire.holds_all)
        for stamp, received in list(self.messages.items()):
            # a tick from now on reads the newest due message, and of older ones (read mode) only open ones
            is_superseded = newest_due is not None and stamp < newest_due
            may_be_held = keeps_later and stamp > self.newest_due_seen
            if is_superseded and not received.open_windows and not may_be_held:
                del self.messages[stamp]

    def end_episodes(self, ended: Mask) -> None:
        """Void all messages, and forget what is held, where an episode ended (rule 20)."""
        for received in self.messages.values():
            received.void = simplified(received.void | ended)
        for name in ("held_stamp", "prior_stamp"):
            if (stamp := getattr(self, name)) is not None:
                setattr(self, name, ended.where(torch.full_like(stamp, -1), stamp))


def _arrival_of(received: Received) -> Arrival:
    """The arrival of a message; where it is missing, nothing stands in for it."""
    available = ~received.missing
    if available is NONE:
        return Arrival(received)
    return Arrival(received, received.value, available, may_count=available)


def merged_signals(mask: Mask, inside: dict[str, Tensor], outside: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `inside` where the mask holds, and `outside` elsewhere; a mask `_name` that one lacks holds everywhere."""
    if mask is ALL or not outside:
        return dict(inside)
    signals = {}
    for name, value in (inside | outside).items():
        full = torch.ones_like(value) if name.startswith("_") else value
        signals[name] = mask.where(inside.get(name, full), outside.get(name, full))
    return signals


# --- what joins them ---------------------------------------------------------------------------------------


@dataclass(eq=False)
class Wire:
    """What joins the two ends of a stack of K >= 1 channels, [K * B, size]; it begins without messages.

    Attributes:
        timetable: When messages are sent and read, and gradients return.
        link: Loss, noise and quantisation.
        returns_gradients: Whether the gradients of reads are booked, and return; else only the rows that counted are.
        aligned: Whether the receiver works on the signals of the message it reads.
        holds_all: Whether every message is held, also over a perfect link, before it is deleted: a synthetic input is
            conditioned on the newest arrival.
        keeps_returned: Whether the newest returned gradient is kept: a synthetic gradient is conditioned on it.
    """

    name: str
    timetable: Timetable
    link: Link
    returns_gradients: bool
    aligned: bool = False
    holds_all: bool = False
    keeps_returned: bool = False
    outbox: Outbox = field(init=False)
    inbox: Inbox = field(init=False)

    def __post_init__(self) -> None:
        self.clear()

    @classmethod
    def of(cls, wire: Wire, **changes: Any) -> Self:
        """Return a wire of this class with the settings of another one, some of them changed."""
        settings = {entry.name: getattr(wire, entry.name) for entry in fields(wire) if entry.init}
        return cls(**settings | changes)

    def clear(self) -> None:
        self.outbox, self.inbox = Outbox(self), Inbox(self, holds=self.link.loses or self.holds_all)

    def carried(
        self, stamp: int, value: Tensor, signals: StepSignals, plan: ReadPlan, void: Mask
    ) -> Received:
        """Return a message, [rows, size], as the link carries or loses it."""
        carried = self.link.carry(stamp, value)
        lost = self.link.lost(stamp, value.shape[0], value.device)  # a length is no symbol of an export
        return Received(stamp, carried, signals, plan, lost, void, set(plan.window_numbers))

    def deliver(self, received: Received) -> None:
        """Bring a message to its receiver, which reads it in its time."""
        self.inbox.messages[received.stamp] = received

    def give_back(
        self, stamp: int, finished_at: int, gradient: Tensor | None, counted: Mask, loss: Tensor | None
    ) -> None:
        """Bring what has been booked for a message to its sender, which has it in its time."""
        self.outbox.take_returned(stamp, finished_at, gradient, counted, loss)

    def end_episodes(self, step: int, ended: Mask, terminated: Mask) -> None:
        """Void all messages where an episode `ended` with `step`: no window ends with it (rule 20).

        Args:
            terminated: Where it ended for good, not by a limit of time: after such a state nothing follows.
        """
        if self.timetable.carries_state and self.returns_gradients and terminated is not NONE:
            self.outbox.return_zeros_for_last_state(step, terminated)
        self.outbox.end_episodes(step, ended)
        self.inbox.end_episodes(ended)

    def copied(self) -> Wire:
        """Return a wire that changes independently: its messages are copies, with the same tensors."""
        wire, out, into = Wire.of(self), self.outbox, self.inbox
        every = (*out.sent.values(), *chain.from_iterable(out.back.values()))
        copies = {sent: copy(sent) for sent in every}
        wire.outbox = replace(
            out,
            wire=wire,
            sent={stamp: copies[sent] for stamp, sent in out.sent.items()},
            back={step: [copies[sent] for sent in back] for step, back in out.back.items()},
        )
        received = {stamp: replace(r, open_windows=set(r.open_windows)) for stamp, r in into.messages.items()}
        wire.inbox = replace(into, wire=wire, messages=received)
        return wire
