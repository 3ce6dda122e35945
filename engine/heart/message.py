"""Messages of stacks of channels: content, fate, what is booked for them, and arrivals (rule 17, the ledger)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.base.mask import ALL, NONE, Mask, simplified
from antiphon.engine.heart.notes import Notes, copied_notes
from antiphon.engine.heart.roles import MASK, NOTES, PLAIN, ROWS, SIGNALS, of_receiver, record, saved_as
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.timetable import ReadPlan

if TYPE_CHECKING:
    from antiphon.comms.symbols import MessageSampler


@dataclass(slots=True, eq=False)
class Content:
    """The content of a channel's messages: from which port they are, in which shape, and how they are sampled."""

    port_name: str
    """The output of the sender's network that is sent."""
    shape: tuple[int, ...]
    """Shape of one message. It is flat, [rows, size], in ledgers (`value_of` flattens it) and reads."""
    zeros: Tensor
    """[rows, size]: what a receiver reads before any message has come."""
    sampler: MessageSampler | None = None
    """Samples messages from the port's output (symbols); None: the output is the message."""

    @property
    def size(self) -> int:
        """Components of one message."""
        return math.prod(self.shape)


@dataclass(slots=True, eq=False)
class Fate:
    """Where a message does not arrive, or is void; the ledger sets it at sending and as episodes end.

    What was read before an episode's end counts all the same. A message that is void in all rows gets the mask `ALL`
    (`simplified`), and nothing is injected into it: injected zeros would let momentum move parameters.
    """

    lost: Mask = field(default=NONE, metadata=MASK)
    """Where the link lost it."""
    void: Mask = field(default=NONE, metadata=MASK)
    """Where ticks read it as zeros from now on."""
    void_unread: Mask = field(default=NONE, metadata=MASK)
    """Where it became void before any tick read it, if a read may be booked: as it was sent, or as an episode ended at
    a step before `ReadPlan.first_tick`. An episode that ends at the step of that tick ends after it. From then on
    nothing is injected there; a window of the sender that ended earlier has injected."""
    void_as_sent: Mask = field(default=NONE, metadata=saved_as("unsent", MASK))
    """Where it was void as it was sent: nothing crossed the link there."""

    def set_lost(self, rows: Mask) -> None:
        """Set where a message from another part does not arrive (distributed/parts/cut.py)."""
        self.lost = rows

    def add_void(self, ended_rows: Mask, *, unread: bool) -> None:
        """Void the message also where an episode ended; `unread`: whether no tick has read it."""
        self.void = simplified(self.void | ended_rows)
        if unread:
            self.void_unread = simplified(self.void_unread | ended_rows)


@dataclass(slots=True, eq=False)
class Booked:
    """What is booked for a message as the windows that read it are learned from; whole once it is finished."""

    gradient: Tensor | None = field(default=None, metadata=ROWS)
    """[rows, size], per sample, summed over the reads that counted; zeros elsewhere than in `rows`."""
    loss: Tensor | None = field(default=None, metadata=ROWS)
    """[rows]: the loss of its receiver in the windows that read it, for critics."""
    rows: Mask = field(default=NONE, metadata=saved_as("counted", MASK))
    """Where anything is booked: a read counted, or the gradient is known to be zero (`add_zero_rows`). If it holds in
    no row, `Message.mark_finished` makes it `NONE`."""

    def add_read(self, counted: Mask, gradient: Tensor | None) -> None:
        """Add a read where it `counted`, and its `Channel.as_returned`; None: no gradient returns, or none reaches
        it."""
        self.rows |= counted
        if gradient is not None:
            self.gradient = gradient if self.gradient is None else self.gradient + gradient

    def add_zero_rows(self, rows: Mask) -> None:
        """Add rows in which a state's gradient is zero: its episode ended for good, and no loss depends on it."""
        self.rows |= rows

    def add_loss(self, loss: Tensor) -> None:
        """Add the loss of a window, [rows]."""
        self.loss = loss if self.loss is None else self.loss + loss

    def replace_gradient(self, gradient: Tensor) -> None:
        """Replace the gradient, or no gradient by zeros."""
        self.gradient = gradient


class ReturnState(Enum):
    """What has become of the gradient of a message, as its sender's window may see it."""

    PENDING = auto()
    """The message is open, or its gradient on its way."""
    BACK = auto()
    """The gradient has reached the sender."""
    NOTHING = auto()
    """None returns: no read may be booked, or none was."""


@dataclass(slots=True, eq=False)
class Message:
    """One message of a stack of channels: what was sent, and what becomes of it.

    The table of ledger.py says what changes it. A field with a role (roles.py) is part of a saved state, here and
    below.
    """

    stamp: int = field(metadata=PLAIN)
    """The step at which it was sent."""
    sent_value: Tensor = field(metadata=saved_as("sent", ROWS))
    """[rows, size], as it was sent; without components once it `is_freed`."""
    carried_value: Tensor = field(metadata=saved_as("received", ROWS))
    """[rows, size], as the link carries it, with its rounding and noise; also in rows that it loses (`Fate.lost`)."""
    step_signals: StepSignals = field(metadata=SIGNALS)
    """The signals it was made from."""
    read_plan: ReadPlan = field(metadata=of_receiver(record(ReadPlan)))
    open_reader_windows: set[int] = field(metadata=of_receiver(saved_as("open_window_numbers", PLAIN)))
    """Windows of `ReadPlan.window_numbers` that have not closed."""
    finished_at: int | None = field(default=None, metadata=of_receiver(PLAIN))
    """Step at which the last of these windows closed; None: one is open. Without bookable reads, it is the stamp."""
    back_at: int | None = None
    """Step at which its gradient is back at its sender, known once it is finished (`Ledger.finish`); None: nothing
    returns, or it is open. To cancel a return, call `return_nothing`."""
    fate: Fate = field(default_factory=Fate, metadata=record(Fate))
    booked: Booked = field(default_factory=Booked, metadata=of_receiver(record(Booked)))
    sender_window_open: bool = field(default=True, metadata=PLAIN)
    """Whether its sender's window may still inject into it, so that it is not deleted, though no tick reads it or will:
    until `close_sender_window`, with `delayed` as a window that has waited is learned from; never for a state of
    `ReadUse.STATE_OF_OWN_WINDOW`."""
    notes: Notes = field(default_factory=dict, metadata=NOTES)

    def close_sender_window(self) -> None:
        """Let it be deleted: its sender's window has been learned from or skipped, and injects no more."""
        self.sender_window_open = False

    @property
    def is_freed(self) -> bool:
        """Whether its values have been freed: no tick reads them any more."""
        return not self.sent_value.numel()

    def free_values(self) -> None:
        """Free its values, which are read no more (features/sweep.py); it is deleted when its last window closes."""
        self.sent_value = self.carried_value = self.sent_value.new_empty(0)

    def replace_values(
        self, sent_value: Tensor, carried_value: Tensor, step_signals: StepSignals | None = None
    ) -> None:
        """Replace its values, [rows, size] each, and the signals that it was made from; None: these stay."""
        self.sent_value, self.carried_value = sent_value, carried_value
        self.step_signals = step_signals or self.step_signals

    def mark_finished(self, step: int, back_at: int | None) -> None:
        """Finish it: the last window that may read it closed at `step`.

        If nothing is booked in any row, nothing returns. If something is and gradients return, there is one: zeros where
        no loss depends on the message.

        Args:
            back_at: The step at which its gradient is back, if anything is booked; None: gradients do not return.
        """
        self.finished_at = step
        if self.booked.rows is NONE:
            return
        if not self.booked.rows.anywhere:
            self.return_nothing()
            return
        self.back_at = back_at
        if back_at is not None and self.booked.gradient is None:
            self.booked.replace_gradient(torch.zeros_like(self.sent_value))

    def return_nothing(self) -> None:
        """Let nothing return for it, also if it is finished and its gradient on its way."""
        self.booked, self.back_at = replace(self.booked, rows=NONE), None

    def return_state(self, step: int) -> ReturnState:
        """Return what has become of its gradient by `step`.

        A step asks in its stage 2, and closes windows in its stage 3. So a message whose last window ends at this step
        is still open then, and is back only when a later step asks, also with `return_delay` 0. Another part may be
        ahead, and have closed it.
        """
        if not self.read_plan.is_bookable:
            return ReturnState.NOTHING
        if self.back_at is not None:
            return ReturnState.BACK if self.back_at <= step else ReturnState.PENDING
        is_open = self.finished_at is None or self.finished_at >= step
        return ReturnState.PENDING if is_open else ReturnState.NOTHING

    def replace_booked(self, booked: Booked) -> None:
        """Set what another part, whose windows have closed, has booked; distributed/parts/cut.py then finishes
        it."""
        self.booked, self.open_reader_windows = booked, set()

    @property
    def sent_rows(self) -> Mask:
        """Where it was sent at all, whatever the link did to it: what counts traffic, and means of messages, asks here."""
        return ~self.fate.void_as_sent

    @property
    def missing(self) -> Mask:
        """Where a tick that reads it now does not get it: it is lost, or void by now."""
        fate = self.fate
        return fate.void if fate.lost is NONE else fate.void | fate.lost

    @property
    def creditable(self) -> Mask:
        """Where its sender may have credit: a read may be booked, and it was not void before a tick read it.

        `NONE` if there is no such row: then it has no credit, and no zeros are injected. Whether there is credit in
        these rows, its coupling says: a locked one gives none (`ReadUse.BOOKABLE`).
        """
        if not self.read_plan.is_bookable:
            return NONE
        void_unread = self.fate.void_unread
        return ALL if void_unread is NONE else ~void_unread

    def copied(self) -> Message:
        """Return a copy that changes independently and has the same tensors."""
        fate, booked = replace(self.fate), replace(self.booked)
        window_numbers, notes = set(self.open_reader_windows), copied_notes(self.notes)
        return replace(self, open_reader_windows=window_numbers, fate=fate, booked=booked, notes=notes)


@dataclass(slots=True, eq=False)
class Arrival:
    """What has reached a receiver's tick over a channel: the due message, or the value that stands in for it."""

    message: Message
    """The due message: the newest that a perfect link would bring, or one of several (read mode)."""
    value: Tensor | None = None
    """[rows, size]; None: zeros."""
    available: Mask = NONE
    """Where the tick has a value to read; elsewhere `value` is of no meaning."""
    may_count: Mask = NONE
    """Where a read of it counts if the receiver learns; where an older message stands in, it never counts."""
    synthetic: Mask = NONE
    """Where a synthetic input stands in for the message."""
    step_signals: StepSignals | None = None
    """The signals that the value was made from; None: the message's own."""
