"""Gradient ledger of a channel: what comes back for each message, and when that is complete (semantics 4, 5, 17, 20).

One record per stamp. Which receiver ticks may use a stamp, and which windows must close before its delta is complete,
follow from the clocks alone; losses and episode ends only decide, per environment, what counts. The fields of a record
are written here and nowhere else. Its life: `send` enters it, `use` hands its message out, `book` adds the deltas that came
back, `close` ends a receiver's window and completes it, `take` gives it to the training of predictors; `cut` voids what an
ended episode sent. What is named `release` frees memory and changes no number.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from antiphon.comms.backward_requests import as_leaf, value_of
from antiphon.comms.links import Link
from antiphon.comms.synthetic_gradients import ReturnedAction
from antiphon.engine.heart.clock import Clock, Sends, Windows, uses_of
from antiphon.engine.heart.message import Consumption, Delivery, Record, StepSignals, Tape
from antiphon.engine.heart.rows import EnvMask, mask_and, mask_fill_zero, mask_not, mask_or, simplify
from antiphon.errors import EngineError

__all__ = ["NEVER", "GradientLedger"]


NEVER = 1 << 62
"""A stamp that no message has."""


@dataclass
class GradientLedger:
    """The records of one channel.

    Attributes:
        name: The channel's name.
        sender: When the sender sends.
        receiver: The receiver's clock.
        windows: The receiving group's windows.
        link: Delay and losses.
        wants_deltas: Whether deltas are wanted; where not, uses are only counted.
        back: Steps that a delta takes back to the sender; negative: as many as a message takes.
        slack: Steps that a record may stay open beyond its last window (a late receiver's staleness).
        remembers: Whether records wait until the mailbox has taken them in, on a perfect link too.
        read: What a tick that several messages reach since the one before it does with them.
        state: Whether the messages are states that an agent hands to its own next tick.
        sent_in: The sending group's windows, where a predictor is conditioned on them.
    """

    name: str
    sender: Sends
    receiver: Clock
    windows: Windows
    link: Link
    wants_deltas: bool
    back: int = -1
    slack: int = 0
    remembers: bool = False
    read: str = "last"
    state: bool = False
    sent_in: Windows | None = None
    records: dict[int, Record] = field(default_factory=dict)
    """By stamp."""
    uses: dict[int, dict[tuple[int, int], Consumption]] = field(default_factory=dict)
    """Per open receiver window: uses by (stamp, tick step; -1 where every use shares one leaf)."""
    completed: dict[int, list[Record]] = field(default_factory=dict)
    """Complete records by the step at which their delta reaches the sender."""
    newest: Tensor | None = None
    """[B, size]: the newest delta that has come back, zeros where that episode has ended."""
    read_up_to: int = -1
    """Newest stamp that the mailbox has taken in, where records wait for it."""

    def __post_init__(self) -> None:
        if self.back < 0:
            self.back = self.link.delay

    # --- the sender's half: a message goes out, its gradient arrives ----------------------------------------

    def send(self, step: int, message: Tensor, step_signals: StepSignals) -> Record:
        """Enter a message made at `step` and return its record."""
        first, waiting, deadline = self._uses(step)
        link, sent = self.link, value_of(message)
        received = link.carry(step, sent) if link.noise or link.bits else sent
        deadline += self.slack if first is not None else 0
        record = Record(step, sent, received, step_signals, first, waiting, deadline, graph_output=message)
        if link.drop:
            record.lost = link.lost(step, message.shape[0], message.device)
        self._note_newest(step)
        record.returned = self.newest
        if first is None:
            record.finished = step
        self._forget(step)
        self.records[step] = record
        return record

    def send_elsewhere(self, slack: int) -> None:
        """Become a sending half: what is returned may take `slack` steps more, and no mailbox waits for a message here."""
        self.slack += slack
        self.read_up_to = NEVER

    def _uses(self, stamp: int) -> tuple[int | None, set[int], int]:
        return uses_of(
            stamp,
            self.sender,
            self.receiver,
            self.windows,
            self.link.delay,
            read=self.read,
            state=self.state,
        )

    def returned_at(self, stamp: int) -> int | None:
        """Step at which a message's delta is back at its sender over a perfect link; None: it is not read.

        A state is read by another window than its own.
        """
        first, _, complete = self._uses(stamp)
        return None if first is None else complete + self.back

    def _note_newest(self, step: int) -> None:
        """Note the deltas that reach the sender at `step`."""
        for record in self.completed.get(step, ()):
            assert record.delta is not None
            newest = record.delta
            if isinstance(
                record.counted, Tensor
            ):  # where nothing came back, the one before is still the newest
                before = torch.zeros_like(record.delta) if self.newest is None else self.newest
                newest = torch.where(record.counted.unsqueeze(1), record.delta, before)
            self.newest = newest if record.void is False else mask_fill_zero(mask_not(record.void), newest)

    def _forget(self, step: int) -> None:
        """Drop records of no more use, and check that none has been left open."""
        newest = self.sender.latest(step - self.link.delay)
        for stamp, record in list(self.records.items()):
            if record.finished is None:
                if record.deadline < step:
                    raise EngineError(f"{self.name}: the record of step {stamp} is still open at step {step}")
            elif not record.held_by_sender and newest is not None and stamp < newest:
                if (self.link.drop or self.remembers) and stamp > self.read_up_to:
                    continue
                if record.finished + self.back < step or record.counted is False:
                    del self.records[stamp]

    @staticmethod
    def annotate(
        record: Record, *, void: EnvMask = False, states: dict[str, Tensor] | None = None, began: int = 0
    ) -> None:
        """Note what is known of a message when it is sent.

        Args:
            record: The message's.
            void: Where it would poison who reads it.
            states: Of the channel's ends.
            began: Step at which its episode began.
        """
        record.void = record.no_injection = void
        record.states, record.began = states or {}, began

    @staticmethod
    def release(sent: Iterable[tuple[str, Record]]) -> None:
        """Note that the sender has learned from messages, by channel, or never will."""
        for _, record in sent:
            record.held_by_sender = False

    @staticmethod
    def attach_graph(record: Record, message: Tensor) -> None:
        """Join a message again to the sender's graph, which has been replayed."""
        record.graph_output = message

    @staticmethod
    def release_graphs(tapes: Iterable[Tape], *, predictions: bool = True) -> None:
        """Let the graphs of windows go, and what was predicted of their messages; the tapes can still be replayed.

        Args:
            tapes: Of the windows.
            predictions: Whether what was predicted goes too.
        """
        for tape in tapes:
            tape.graph_outputs.clear()
            for tick in tape.ticks:
                for part in tick.parts:
                    part.ports = {}
            for _, record in tape.sent:
                record.graph_output = None
                if predictions:
                    record.prediction = None

    def spent(self, record: Record) -> bool:
        """Return whether neither a message nor its gradient is read after its reader's window has been differentiated."""
        kept = self.wants_deltas or self.remembers or bool(self.link.drop) or record.graph_output is not None
        # Sent at every step and read at its own, it has one use, and another one is the newest of the next step's figures.
        return not kept and self.link.delay + self.back == 0 and self.sender.due(record.stamp + 1)

    def release_message(self, use: Consumption) -> None:
        """Release a spent message [B, size]; its record is deleted when its window closes."""
        nothing = use.record.message.new_empty(0)
        use.leaf = use.record.message = use.record.received = nothing
        use.record.spent = True

    @staticmethod
    def keep_prediction(record: Record, prediction: Tensor, updates: int) -> None:
        """Keep what a message's predictor said of it after so many updates."""
        record.prediction = prediction, updates

    @staticmethod
    def replace_gradient(record: Record, delta: Tensor) -> None:
        """Put another gradient in place of what came back: clipped, or a return over several windows."""
        record.delta = delta

    def take(self, step: int) -> list[Record]:
        """Return the records whose delta reaches the sender at `step`, once."""
        if not (self.back and self.sender.due(step)):  # else they have been noted when it sent
            self._note_newest(step)
        return self.completed.pop(step, [])

    # --- the receiver's half: uses, and what they return ----------------------------------------------------

    def use(self, step: int, delivery: Delivery) -> Consumption | None:
        """Book that the tick at `step` consumed `delivery`, and return the leaf it may differentiate."""
        if delivery.record is None or delivery.value is None or delivery.counted is False:
            return None
        window = self.uses.setdefault(self.windows.number(step), {})
        shared = delivery.counted is True and delivery.stand_in_mask is False
        key = (delivery.record.stamp, -1 if shared else step)
        if key not in window:
            leaf = as_leaf(delivery.value) if self.wants_deltas else delivery.value
            window[key] = Consumption(delivery.record, leaf, delivery.counted, delivery.somewhere)
        return window[key]

    @staticmethod
    def restrict(use: Consumption, rows: EnvMask) -> None:
        """Let a use count in `rows` only."""
        use.counted = mask_and(use.counted, rows)
        use.somewhere = None

    def book(self, use: Consumption, delta: Tensor | None) -> None:
        """Add a counted use's delta, [B, size] per sample (None: the loss does not depend on it)."""
        record = use.record
        known = use.counted if isinstance(use.counted, bool) else use.somewhere
        before = False if record.counted is False else record.somewhere
        record.somewhere = True if known or before else None if known is None else before
        record.counted = True if use.counted is True else mask_or(record.counted, use.counted)
        if delta is not None:
            if use.counted is not True:
                delta = mask_fill_zero(use.counted, delta)
            record.delta = delta if record.delta is None else record.delta + delta

    @staticmethod
    def book_loss(uses: Sequence[Consumption], loss: Tensor) -> None:
        """Add a window's loss [B] to each record that it used: once, in however many ticks that was."""
        used: dict[Record, EnvMask] = {}
        for use in uses:
            used[use.record] = mask_or(used.get(use.record, False), use.counted)
        for record, mask in used.items():
            lost = mask_fill_zero(mask, loss)
            record.loss = lost if record.loss is None else record.loss + lost

    @staticmethod
    def book_action(use: Consumption, returned: ReturnedAction) -> None:
        """Add what the receiver did at a tick that used a message."""
        advantage, valid = (
            mask_fill_zero(use.counted, rows) for rows in (returned.advantage, returned.valid)
        )
        use.record.actions.append(ReturnedAction(returned.action, advantage, valid))

    def close(self, window: int, step: int) -> None:
        """Note that the receiver's `window` has been learned (or dropped) at `step`."""
        self.uses.pop(window, None)
        for record in list(self.records.values()):
            if window in record.waiting:
                record.waiting.discard(window)
                if not record.waiting:
                    self._finish(record, step)

    def _finish(self, record: Record, step: int) -> None:
        record.finished = step
        if record.spent:
            del self.records[record.stamp]
            return
        if isinstance(record.counted, Tensor):
            somewhere = bool(record.counted.any()) if record.somewhere is None else record.somewhere
            record.counted = record.counted if somewhere else False
        if record.counted is not False and self.wants_deltas:
            if record.delta is None:
                record.delta = torch.zeros_like(record.message)
            self.completed.setdefault(step + self.back, []).append(record)

    # --- both ----------------------------------------------------------------------------------------------

    def cut(self, step: int, ended: EnvMask, terminated: EnvMask = False) -> None:
        """Void what was sent in the environments whose episode ended at `step` (semantics 20).

        Args:
            step: The step just taken; nobody has learned at it yet.
            ended: Where an episode ended.
            terminated: Where it ended for good, not by a limit of time: after such a state nothing follows.
        """
        if self.state and self.wants_deltas and terminated is not False:
            self._last_state(step, terminated)
        for record in self.records.values():
            record.void = simplify(mask_or(record.void, ended))
            if record.first_use is not None and record.first_use > step:
                record.no_injection = simplify(mask_or(record.no_injection, ended))
        if self.newest is not None:
            self.newest = mask_fill_zero(mask_not(ended), self.newest)

    def _last_state(self, step: int, terminated: EnvMask) -> None:
        """Let the gradient of the state that an episode ended with be known: it is zero."""
        stamp = self.sender.latest(step)
        record = None if stamp is None else self.records.get(stamp)
        if record is None:
            return
        last = mask_and(terminated, mask_not(record.void))
        if last is False or (isinstance(last, Tensor) and not bool(last.any())):
            return
        if record.unread:  # of no more use but as an example, which is complete now
            known = replace(record, counted=last, delta=torch.zeros_like(record.message))
            self.completed.setdefault(step + self.back, []).append(known)
        else:
            record.counted, record.somewhere = mask_or(record.counted, last), None

    # --- the halves of a channel that is cut: each is in another part, and its content comes from there -----------

    def enter(self, step: int, placeholder: Tensor, step_signals: StepSignals, began: int) -> Record:
        """Enter the message that the other half sends at `step`, whose content arrives later, and return its record.

        Args:
            step: The step.
            placeholder: [B, size], zeros.
            step_signals: Its signals.
            began: Step at which its episode began, where that is a window.
        """
        record = self.send(step, placeholder, step_signals)
        record.graph_output, record.began = None, began
        record.held_by_sender = False  # the other half keeps it for its sender
        return record

    @staticmethod
    def fill(record: Record, received: Tensor) -> None:
        """Put what the other half has sent, [B, size] as received, in place of the placeholder."""
        record.message = record.received = received

    def give_back(
        self, stamp: int, finished: int, counted: EnvMask, delta: Tensor | None, loss: Tensor | None
    ) -> None:
        """Enter what the other half returns for a message.

        Args:
            stamp: The message's.
            finished: Step at which the last window that used it closed.
            counted: Environments in which a use counted.
            delta: [B, size] per sample; None: nothing came back.
            loss: [B], of its receiver, for critics; None: nobody asks for it.
        """
        record = self.records[stamp]
        record.counted, record.delta, record.loss = counted, delta, loss
        record.somewhere = None
        record.waiting.clear()
        self._finish(record, finished)

    # --- copies that are run on ------------------------------------------------------------------------------

    def reopened(self, horizon: int) -> GradientLedger:
        """A copy whose records may stay open for `horizon` more steps: no window closes there."""
        records = {stamp: copy.copy(record) for stamp, record in self.records.items()}
        for record in records.values():
            record.deadline += horizon
        return replace(
            self, records=records, uses={}, completed=dict(self.completed), slack=self.slack + horizon
        )

    def pass_graph(self, record: Record, message: Tensor) -> None:
        """Let readers of a message, [B, size], have it with its graph."""
        record.message = message
        record.received = self.link.carry(record.stamp, message)
