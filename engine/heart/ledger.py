"""Ledgers: the messages of stacks of channels (rule 17, the ledger).

As a message is sent, its `Timetable` says which ticks of the receiver read it, and which windows must close before it
is finished. Losses and ends of episodes only decide in which environments its reads count.

A message changes through the ledger of its channel, or through these:

    BackwardPass.book            adds the gradients of the reads of a window, of all its channels
    features at `after_book`     add losses to what is booked (returned_losses.py)
    Message.close_sender_window  lets it be deleted: its sender's window is done with (`Engine`, rollouts)
    features/sweep.py            frees values that are read no more (`Message.free_values`)
    distributed/parts/cut.py         enters what crosses between parts (`Fate.set_lost`, `Message.replace_booked`,
                                 `replace_values`)
    inspection/truth.py          replaces values by what has a graph (`Message.replace_values`)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import chain

from torch import Tensor

from antiphon.base.errors import EngineError
from antiphon.base.mask import NONE, Mask
from antiphon.comms.backward_requests import value_of
from antiphon.comms.links import Link
from antiphon.engine.heart.held_messages import HeldMessages
from antiphon.engine.heart.message import Arrival, Booked, Fate, Message
from antiphon.engine.heart.newest_returned import NewestReturned
from antiphon.engine.heart.roles import of_receiver, record
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.timetable import ReadPlan, ReadUse, Timetable


@dataclass
class Ledger:
    """The messages of a stack of K >= 1 channels, [K * B, size] each; made by the builder.

    It begins without messages, also as `replace` makes it of another one, with other settings.

    Attributes:
        timetable: When messages are sent and read, and gradients return.
        link: Loss, noise and quantisation.
        returns_gradients: Whether the gradients of reads are booked, and return; else only the rows that counted are
            booked.
        slack: Steps that messages may stay open beyond `ReadPlan.finish_by`: a receiver that waits closes windows
            later.
        aligned: Whether the receiver works on the signals of the message it reads.
        holds_all: Whether every message is held, also over a perfect link, before it is deleted: a synthetic input is
            conditioned on the newest arrival.
        keeps_returned: Whether the newest returned gradient is kept: a synthetic gradient is conditioned on it.

        messages: Messages by stamp. From here on attributes change with every step; those above are settings.
        back_by_step: Finished messages by `Message.back_at`, until they are popped.
        held_messages: What the receiver holds; None: it `may_lose` none, and holds not all.
        newest_returned: The newest returned gradient, if the ledger `keeps_returned`; else None.
    """

    name: str
    timetable: Timetable
    link: Link
    returns_gradients: bool
    slack: int = 0
    aligned: bool = False
    holds_all: bool = False
    keeps_returned: bool = False
    messages: dict[int, Message] = field(init=False, default_factory=dict)
    back_by_step: dict[int, list[Message]] = field(init=False, default_factory=dict)
    held_messages: HeldMessages | None = field(init=False, metadata=of_receiver(record(HeldMessages)))
    newest_returned: NewestReturned | None = field(init=False)

    def __post_init__(self) -> None:
        self.held_messages = HeldMessages() if self.may_lose or self.holds_all else None
        self.newest_returned = NewestReturned() if self.keeps_returned else None

    def hold_messages(self) -> None:
        """Hold messages from now on, if none are: those from another part may come too late for their ticks."""
        self.held_messages = self.held_messages or HeldMessages()

    def hold_none(self) -> None:
        """Hold no messages: the receiver is in another part."""
        self.held_messages = None

    def copied(self) -> Ledger:
        """Return a copy that changes independently: its messages are copies, with the same tensors."""
        copies = {m: m.copied() for m in chain(self.messages.values(), *self.back_by_step.values())}
        messages = {stamp: copies[m] for stamp, m in self.messages.items()}
        back_by_step = {step: [copies[m] for m in back] for step, back in self.back_by_step.items()}
        ledger = replace(self)
        ledger.load(messages, back_by_step, copy(self.held_messages), copy(self.newest_returned))
        return ledger

    def load(
        self,
        messages: dict[int, Message],
        back_by_step: dict[int, list[Message]],
        held_messages: HeldMessages | None,
        newest_returned: NewestReturned | None,
    ) -> None:
        """Take over a saved state: all that changes with every step."""
        self.messages, self.back_by_step = messages, back_by_step
        self.held_messages, self.newest_returned = held_messages, newest_returned

    @property
    def may_lose(self) -> bool:
        """Whether a message may not arrive, so that an older one is held and kept; all that plan ask here."""
        return self.link.loses

    def allow_slack(self, steps: int) -> None:
        """Let messages stay open for so many more steps beyond their plan."""
        self.slack += steps

    # --- the sender's half: a message goes out, its gradient arrives ----------------------------------------

    def send(self, step: int, output: Tensor, step_signals: StepSignals, void: Mask = NONE) -> Message:
        """Enter a message made at `step`, and return it: flat, [rows, size], and without its sender's graph.

        Args:
            output: The message as its sender computes it, with its graph, [rows, …].
            void: Where it is void as it is sent (`Channel.void_when_sent`).
        """
        if self.newest_returned is not None:
            self.newest_returned.take_in(self.back_by_step.get(step, ()), step)
        read_plan = self.timetable.read_plan(step)
        message = self._carried_message(step, output, step_signals, read_plan, void)
        self.messages[step] = message
        return message

    def _carried_message(
        self,
        stamp: int,
        output: Tensor,
        step_signals: StepSignals,
        read_plan: ReadPlan,
        void: Mask,
    ) -> Message:
        """A message, [rows, …], as the link carries or loses it: flat, [rows, size]."""
        link, sent = self.link, value_of(output)
        carried = link.carry(stamp, sent) if link.changes_values else sent
        lost = link.lost(stamp, sent.shape[0], sent.device) if self.may_lose else NONE
        void_unread = void if read_plan.is_bookable else NONE
        fate = Fate(lost=lost, void=void, void_unread=void_unread, void_as_sent=void)
        return Message(
            stamp,
            sent,
            carried,
            step_signals,
            read_plan,
            open_reader_windows=set(read_plan.window_numbers),
            finished_at=None if read_plan.is_bookable else stamp,
            fate=fate,
            sender_window_open=read_plan.use is not ReadUse.STATE_OF_OWN_WINDOW,
        )

    @contextmanager
    def temporarily_sent(
        self, stamps: Sequence[int], output: Tensor, step_signals: StepSignals, void: Mask = NONE
    ) -> Iterator[None]:
        """Read, in the context, as if `output` had been sent at these stamps too; nothing of it is left afterwards.

        Final values of policies are read so (engine/policies/final_values.py). Nothing returns for a message that is
        only imagined.
        """
        messages, held_messages = self.messages, self.held_messages
        self.messages, self.held_messages = dict(messages), copy(held_messages)
        for stamp in stamps:
            read_plan = ReadPlan(ticks=self.timetable.reading_ticks(stamp))
            self.messages[stamp] = self._carried_message(stamp, output, step_signals, read_plan, void)
        try:
            yield
        finally:
            self.messages, self.held_messages = messages, held_messages

    def pop_messages_back(self, step: int) -> list[Message]:
        """Remove and return the messages whose gradient reaches the sender at `step`; a second call returns none."""
        messages = [message for message in self.back_by_step.pop(step, ()) if message.back_at == step]
        if self.newest_returned is not None:
            self.newest_returned.take_in(messages, step)
        return messages

    def delete_spent(self, step: int) -> None:
        """Delete the messages that nothing will read or inject into, and whose gradient is not on its way back.

        Agents have ticked at `step`; what is back at it is popped later (`Engine.learn`). So a message stays to the end
        of the step at which its gradient is back, for readers of ledgers between steps.

        Raises:
            EngineError: A message is open beyond the step of its plan: it would never be deleted.
        """
        newest_due = self.timetable.newest_due(step)
        for stamp, message in list(self.messages.items()):
            if message.finished_at is None:
                finish_by = message.read_plan.finish_by
                assert finish_by is not None, "a read of it may be booked"
                if finish_by + self.slack < step:
                    raise EngineError(  # from 1, for people
                        f"{self.name}: the message of step {stamp + 1} is still open at step {step + 1}"
                    )
                continue
            # a tick from now on reads the newest due message, and of older ones (read mode) only open ones
            is_superseded = newest_due is not None and stamp < newest_due
            if not is_superseded or message.sender_window_open:
                continue
            is_returning = message.back_at is not None and message.back_at >= step
            if not is_returning and not self.may_hold_later(stamp):
                del self.messages[stamp]

    def may_hold_later(self, stamp: int) -> bool:
        """Return whether a later tick may hold the message of a stamp, as a newer one may be lost: it must be kept."""
        held = self.held_messages
        return held is not None and stamp > held.newest_stamp and (self.may_lose or self.holds_all)

    # --- the receiver's half: what arrives, and what goes back ----------------------------------------------

    def receive(self, step: int) -> list[Arrival]:
        """Return the arrivals that the receiver's tick at `step` reads, oldest first; empty before the first message.

        There are several only by read mode. In rows in which the newest one is lost, the held message stands in for it.
        `held_messages` is brought up to date where any row is lost, and at every tick if the ledger `holds_all`.
        """
        due_messages = [message for message in self.messages.values() if step in message.read_plan.ticks]
        if not due_messages:
            return []
        *earlier, newest = due_messages
        arrivals = [*map(_arrival_of, earlier)]
        if self.held_messages is None or (newest.fate.lost is NONE and not self.holds_all):
            return [*arrivals, _arrival_of(newest)]
        arrived = (m for m in self.messages.values() if self.timetable.arrival_of(m.stamp) <= step)
        self.held_messages.hold(arrived, newest, aligned=self.aligned)
        arrival = self.held_messages.arrival(
            newest,
            oldest_stamp=due_messages[0].stamp,
            known_to_arrive=self._known_to_arrive(newest),
            aligned=self.aligned,
        )
        return [*arrivals, arrival]

    def _known_to_arrive(self, due_message: Message) -> bool | None:
        """Whether a message arrives in any row, as far as the host knows; None: a look at its mask shows it.

        On the CPU a look is cheap. Where a tick reads several messages, one that is held may be newer than this one.
        """
        if due_message.fate.lost is NONE or due_message.sent_value.device.type == "cpu":
            return None
        if not self.timetable.read_mode.newest_only:
            return None
        arrives = self.link.arrives(due_message.stamp, due_message.sent_value.shape[0])
        return (~due_message.fate.void).known_anywhere if arrives else False

    def close_reader_window(self, window_number: int, step: int) -> None:
        """Close a window of the receiver, by number: at `step` it was learned from, skipped, or ended without a
        tick."""
        for message in list(self.messages.values()):
            if window_number in message.open_reader_windows:
                message.open_reader_windows.discard(window_number)
                if not message.open_reader_windows:
                    self.finish(message, step)

    def finish(self, message: Message, step: int) -> None:
        """Finish a message: the last window that may read it has closed, and the gradient booked, if any, goes back.

        It is called once for each message, over a cut channel once in each half.
        """
        message.mark_finished(step, self.timetable.back_from(step) if self.returns_gradients else None)
        if message.back_at is not None:
            self.back_by_step.setdefault(message.back_at, []).append(message)
        elif not self.returns_gradients and message.is_freed:  # none is where gradients return
            del self.messages[message.stamp]

    # --- both ----------------------------------------------------------------------------------------------

    def void_messages(self, step: int, ended_rows: Mask, terminated_rows: Mask) -> None:
        """Void all messages, and forget what is held, where an episode ended at `step` (rule 20, ends of episodes).

        No window ends with an episode: later ticks go on in the same one. `EpisodeWindows` end by their length.

        Args:
            step: The step just taken: a tick at it has read already.
            ended_rows: Where an episode ended.
            terminated_rows: Where it ended for good, not by a limit of time: after such a state nothing follows.
        """
        if self.timetable.carries_state and self.returns_gradients and terminated_rows is not NONE:
            self._book_zero_after_last_state(step, terminated_rows)
        for stamp, message in self.messages.items():
            if self.timetable.is_cut(stamp, step + 1, step):
                plan = message.read_plan
                message.fate.add_void(ended_rows, unread=plan.is_bookable and (plan.first_tick or 0) > step)
        for kept in (self.newest_returned, self.held_messages):
            if kept is not None:
                kept.forget(ended_rows)

    def _book_zero_after_last_state(self, step: int, terminated_rows: Mask) -> None:
        """Book a zero gradient for the state that an episode ended with, as no state follows it."""
        stamp = self.timetable.sender_clock.latest(step)
        message = None if stamp is None else self.messages.get(stamp)
        if message is None:
            return
        last_rows = terminated_rows & ~message.fate.void
        if not last_rows.anywhere:
            return
        if message.read_plan.is_bookable:
            message.booked.add_zero_rows(last_rows)
        else:
            # its predictor learns from a copy: the same state may be the last one of other rows at a later step
            assert not self.timetable.return_delay, "a state returns at once: no saved state has such a copy"
            self.finish(replace(message.copied(), booked=Booked(rows=last_rows)), step)


def _arrival_of(message: Message) -> Arrival:
    """The arrival of a message; where it is missing, nothing stands in for it."""
    available = ~message.missing
    if available is NONE:
        return Arrival(message)
    return Arrival(message, message.carried_value, available, may_count=available)
