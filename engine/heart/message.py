"""Messages of stacks of channels, and the words and masks of the heart (rule 17, the ledger).

The life of a message is told at the head of ledger.py, by methods, and in message_lives.py, in numbers.

Words that have one meaning in the heart:

    tick                one evaluation of an agent's network, kept as a `Tick`; the agent *ticks* at that step
    end                 the last step of a window or of an episode
    output              a message as its sender computes it, with its graph: rows of a port, or a sample (`Window.sent_outputs`)
    state               what a recurrent agent sends to its own next tick; what a checkpoint has is a *saved state*
    stamp               the step at which a message was sent
    due                 a message is due at a tick that a perfect link would have brought it to. A tick reads the newest that is due, or
                        several (`read`)
    held                a receiver holds the newest message that has arrived, to read it where a due one is lost, or to condition a
                        synthetic input on it
    void                a message is void in rows in which ticks read it as zeros: `Fate.void`, below
    read                a tick takes a message, or what stands in for it, as input: as a `CountedRead`, `WithGraph` or `Constant`
    learner             the network, parameters and optimiser of an agent, which tied agents share; its name is that of its first agent
    learn               an agent learns from a window in the rows in which the window's gradient moves it: `Tick.learning_rows`, below
    count               a read counts in the rows in which it reads the due message, or a synthetic input in its place, and its agent
                        learns from the window
    window              begins with its first tick, and ends at a step of its `WindowGrid`, at which its group pops it. It closes in the
                        ledgers that it reads once it has been learned from or skipped; without a tick, at its end
    book                add a read to `Message.booked`, as the reader's window is learned from (`BackwardPass.book`): where it counts, and
                        its gradient there, if the ledger `returns_gradients`
    waits               a window waits after its end until the gradients of what it sent are back (`delayed`), or are given up (`horizon`):
                        late_windows.py has the rule. A group `waits` if its windows may
    turn                of a step: windows of one turn are differentiated together, those of a later turn after these are booked
                        (learning_order.py)
    swept               differentiated as soon as its group has ticked, before all turns (features/sweep.py); its turn takes up the result
    point               where the step calls features: a method of `Feature`
    finished            a message is finished when the last window that may read it has closed: all that is booked for it is there
                        (`Message.finished_at`). Until then it is open. A message of which no read may be booked is neither (`Phase`)
    back, returned      what was booked is back, and called returned, when it has reached the sender, `return_delay` steps after its
                        message was finished (`Timetable.back_at`, `Ledger.is_back`)
    loss                of each environment: [rows]; what is differentiated is its mean, the sum divided by B
    prediction          what a synthetic gradient gives for a sent message: its target is the returned gradient, or a signal (`local`)
    applied prediction  the prediction behind its gate, mixed with the gradient booked at the same step (`gradient.trace`)
    credit              what the sender learns from about a message: the applied prediction, shortened (`clip`), or the returned
                        gradient (`delayed`); a feature at the point `replace_credit` may replace it, by one that is not shortened
    injection           what the sender's backward pass adds at the output: the credit, and zeros in rows in which the sender does not
                        learn or the message was void before a tick read it

Masks of a message, in its rows. Where nothing is lost, no episode ends and all learn, they are `NONE` and `ALL`:

    mask                 where it holds
    Fate.lost            the link lost the message
    Fate.void            it is read as zeros: its episode has ended since it was sent, or as it was sent an endpoint was not alive or its
                         mask signal 0 or less
    Fate.void_unread     it is void since before its first tick: no tick has read it
    Fate.unsent          it was void as it was sent: nothing crossed the link
    Message.missing      it is lost or void
    Arrival.available    a tick has a value to read: the due message, an older one that is held, or a synthetic input. Elsewhere it
                         reads zeros
    Arrival.synthetic    the value is a synthetic input
    Arrival.may_count    the value is the due message or a synthetic input, and not an older message
    CountedRead.counted  the read counts: the same, and the receiver learns from the window
    Booked.counted       a read has counted, or a state was an episode's last (`Booked.add_zero_rows`)
    Example.valid        a predictor learns from the message (`Channel.restrict_example`)

Masks of what learns, in rows of an agent, or in members of a stack of agents or channels:

    mask                               set by                          where it holds
    Tick.learning_rows                 `Agent.learning_rows`           the agent learns from the window
    Example.member_mask                `Channel.restrict_example`      the channel has this example
    Update.moving_members_by_agent     features; `Engine.move_agents`  its optimiser moves the member: a learning signal has reached it
    PredictorUpdate.moving_members     `PredictorTrainer`              its optimiser moves the predictor: its channel has an example
    DivergenceCheck.unstopped_members  `DivergenceCheck`               the member's seed has not diverged: others do not move

Times are steps of the environment, from 0; messages to people number them from 1. A run has B environments, and [rows, …] has a row
for each (member of a stack, environment). Several seeds that run as one have B environments each, and a signal is [seeds * B, …].

No autograd graph outlives the step at which its window is learned from, and none is ever stored: a fork, a checkpoint and a window
that waits are replayed from their ticks. A fork or checkpoint gives the bits of the first graph. A window that waits is replayed with
the present parameters, which may have moved since.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.base.mask import NONE, Mask, simplified
from antiphon.comms.examples import ReturnedAction
from antiphon.engine.heart.notes import Notes, copied_notes
from antiphon.engine.heart.roles import MASK, NOTES, PLAIN, ROWS, SIGNALS, record, saved_as
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.timetable import ReadPlan

if TYPE_CHECKING:
    from antiphon.comms.symbols import MessageSampler


class Phase(Enum):
    """How far a message has come (`Message.phase`)."""

    UNBOOKED = "unbooked"
    """No read of it may be booked (`ReadPlan.is_bookable`): nothing returns for it."""
    OPEN = "open"
    """A window whose reads may be booked has not closed."""
    NOT_COUNTED = "not counted"
    """It is finished, and no read of it has counted in any row: nothing returns for it."""
    COUNTED = "counted"
    """It is finished, and a read of it has counted in some row: what is booked for it returns, if its ledger `returns_gradients`."""


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

    What was read before an episode's end counts all the same. A message that is void in all rows gets the mask `ALL` (`simplified`), and
    nothing is injected into it: injected zeros would let momentum move parameters.
    """

    lost: Mask = field(default=NONE, metadata=MASK)
    """Where the link lost it."""
    void: Mask = field(default=NONE, metadata=MASK)
    """Where it is read as zeros."""
    void_unread: Mask = field(default=NONE, metadata=MASK)
    """Where it became void before any tick read it: as it was sent; or, if a read may be booked, as an episode ended before
    `ReadPlan.first_tick`. From then on nothing is injected there; a window of the sender that ended earlier has injected."""
    unsent: Mask = field(default=NONE, metadata=MASK)
    """Where it was void as it was sent: nothing crossed the link there."""

    def set_lost(self, rows: Mask) -> None:
        """Set where a message from another part does not arrive (distributed/parts/cut_ledger.py)."""
        self.lost = rows

    def add_void(self, ended_rows: Mask, *, unread: bool) -> None:
        """Void the message also where an episode ended; `unread`: whether no tick has read it."""
        self.void = simplified(self.void | ended_rows)
        if unread:
            self.void_unread = simplified(self.void_unread | ended_rows)


@dataclass(slots=True, eq=False)
class Booked:
    """What is booked for a message, as the windows that read it are learned from; whole once the message is finished."""

    gradient: Tensor | None = field(default=None, metadata=ROWS)
    """[rows, size], per sample, summed over the reads that counted."""
    loss: Tensor | None = field(default=None, metadata=ROWS)
    """[rows]: the loss of its receiver in the windows that read it, for critics."""
    counted: Mask = field(default=NONE, metadata=MASK)
    """Where a read counted, or the gradient is known to be zero (`add_zero_rows`). If it holds in no row, `Message.mark_finished` makes it
    `NONE`."""
    actions: list[ReturnedAction] = field(default_factory=list)
    """Actions of the receiver at the ticks that read it, for `local_policy`; used at the step that books them, and not saved."""

    def add_read(self, counted: Mask, gradient: Tensor | None) -> None:
        """Add a read where it `counted`, with its gradient, [rows, size] per sample; None: none returns, or no loss depends on it."""
        self.counted |= counted
        if gradient is not None:
            gradient = counted.zero_elsewhere(gradient)
            self.gradient = gradient if self.gradient is None else self.gradient + gradient

    def add_zero_rows(self, rows: Mask) -> None:
        """Add rows in which the gradient of a state is zero: its episode has ended there for good, and no loss depends on it."""
        self.counted |= rows

    def add_loss(self, loss: Tensor) -> None:
        """Add the loss of a window, [rows]."""
        self.loss = loss if self.loss is None else self.loss + loss

    def replace_gradient(self, gradient: Tensor) -> None:
        """Replace the gradient: by a clipped one, by a return over several windows, or no gradient by zeros."""
        self.gradient = gradient


@dataclass(slots=True, eq=False)
class Message:
    """One message of a stack of channels: what was sent, and what becomes of it.

    The table of ledger.py says what changes it. A field with a role (roles.py) is part of a saved state, here and below.
    """

    stamp: int = field(metadata=PLAIN)
    """The step at which it was sent."""
    sent_value: Tensor = field(metadata=saved_as("sent", ROWS))
    """[rows, size], as it was sent; without components once it has been freed."""
    carried_value: Tensor = field(metadata=saved_as("received", ROWS))
    """[rows, size], as the link carries it, rounded to its bits and with its noise; also in rows in which the link loses it (`Fate.lost`)."""
    step_signals: StepSignals = field(metadata=SIGNALS)
    """The signals it was made from."""
    read_plan: ReadPlan = field(metadata=record(ReadPlan))
    open_window_numbers: set[int] = field(metadata=PLAIN)
    """Those of `ReadPlan.window_numbers` that have not closed."""
    phase: Phase
    """How far it has come; a saved state has it by the other fields (engine/state/state_dict.py)."""
    finished_at: int | None = field(default=None, metadata=PLAIN)
    """Step at which the last of these windows closed; None: one is open, or no read may be booked."""
    fate: Fate = field(default_factory=Fate, metadata=record(Fate))
    booked: Booked = field(default_factory=Booked, metadata=record(Booked))
    popped: bool = False
    """Whether its gradient, which was back, has been taken up (`Ledger.pop_messages_back`); a saved state has it as `phase`."""
    sender_window_open: bool = field(default=True, metadata=PLAIN)
    """Whether its sender's window may still inject into it, so that it is not deleted: until `end_credit`; never into a state that only its
    own window reads (`ReadUse.OWN_WINDOW`)."""
    notes: Notes = field(default_factory=dict, metadata=NOTES)

    def end_credit(self) -> None:
        """Let it be deleted: its sender's window has been learned from or skipped, and injects no more."""
        self.sender_window_open = False

    def mark_popped(self) -> None:
        """Let it be deleted: its gradient has been taken up."""
        self.popped = True

    def free_values(self) -> None:
        """Free its values, which are read no more (features/sweep.py); the message is deleted when its last window closes."""
        self.sent_value = self.carried_value = self.sent_value.new_empty(0)

    def replace_values(
        self, sent_value: Tensor, carried_value: Tensor, step_signals: StepSignals | None = None
    ) -> None:
        """Replace its values, [rows, size] each, and the signals that it was made from; None: these stay."""
        self.sent_value, self.carried_value = sent_value, carried_value
        self.step_signals = step_signals or self.step_signals

    def mark_finished(self, step: int, *, returns_gradient: bool) -> None:
        """Finish it, as the last window that may read it has closed at `step`: look up whether anything is booked in any row.

        If nothing is, `Booked.counted` is `NONE` from now on. If something is and gradients return, there is one: zeros where no loss
        depends on the message.
        """
        self.finished_at, self.phase = step, Phase.NOT_COUNTED
        if self.booked.counted is NONE:
            return
        if not self.booked.counted.anywhere:
            self.booked = replace(self.booked, counted=NONE)
            return
        self.phase = Phase.COUNTED
        if returns_gradient and self.booked.gradient is None:
            self.booked.replace_gradient(torch.zeros_like(self.sent_value))

    def replace_booked(self, booked: Booked) -> None:
        """Set all that another part has booked for it, whose windows have closed; `Ledger.finish` follows (distributed/parts/cut_ledger.py)."""
        self.booked, self.open_window_numbers = booked, set()

    @property
    def values_are_freed(self) -> bool:
        """Whether its values have been freed (`free_values`)."""
        return not self.sent_value.numel()

    @property
    def missing(self) -> Mask:
        """Where it is lost or void."""
        fate = self.fate
        return fate.void if fate.lost is NONE else fate.void | fate.lost

    def with_zero_gradient(self, rows: Mask) -> Message:
        """Return a copy for which a zero gradient is booked in some rows, and nothing else."""
        booked = Booked(torch.zeros_like(self.sent_value), counted=rows)
        return replace(self.copied(), phase=Phase.COUNTED, booked=booked)

    def copied(self) -> Message:
        """Return a copy that changes independently and has the same tensors."""
        fate, booked = replace(self.fate), replace(self.booked, actions=[*self.booked.actions])
        window_numbers, notes = set(self.open_window_numbers), copied_notes(self.notes)
        return replace(self, open_window_numbers=window_numbers, fate=fate, booked=booked, notes=notes)
