"""Gradient ledger of a channel: what comes back for each message, and when that is complete (rules 4, 5, 17, 20).

Which receiver ticks may use a message, and which receiver windows have to close before its gradient is complete, follow
from the clocks alone. Losses on the link and episode ends only decide, per environment, what counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from antiphon.comms.backward_requests import as_leaf, value_of
from antiphon.engine.reference.records import Consumption, Delivery, EnvMask, MessageRecord, StepSignals
from antiphon.errors import EngineError

if TYPE_CHECKING:
    from antiphon.engine.core.channel import Channel


def mask_fill_zero(mask: EnvMask, value: Tensor) -> Tensor:
    """Return `value` [B, …] where `mask` [B] holds, zeros elsewhere: put, never multiplied (rule 19: NaN x 0)."""
    return torch.where(mask.view(-1, *([1] * (value.dim() - 1))), value, torch.zeros_like(value))


class GradientLedger:
    """The records of one channel, as it was built."""

    def __init__(self, channel: Channel) -> None:
        built = channel.ledger
        self.name, self.link, self.wants_gradient = channel.name, built.link, built.wants_deltas
        self.sender, self.receiver, self.windows = built.sender, built.receiver, built.windows
        self.back, self.slack, self.is_state, self.read = built.back, built.slack, built.state, built.read
        self.nowhere = torch.zeros(len(channel.zeros), dtype=torch.bool, device=channel.zeros.device)
        self.records: dict[int, MessageRecord] = {}
        """By stamp."""
        self.uses: dict[int, dict[tuple[int, int], Consumption]] = {}
        """By open receiver window, then (stamp, tick); tick -1: one leaf for all ticks of the window."""
        self.returned: dict[int, list[MessageRecord]] = {}
        """Complete records by the step at which their gradient reaches the sender."""
        self.newest: Tensor | None = None
        """[B, size]: the newest gradient that has reached it; zeros where that episode has ended."""

    def schedule(self, stamp: int) -> range:
        """Return the receiver ticks that use the message of `stamp` on a perfect link."""
        start, stop = stamp + self.link.delay, self.sender.after(stamp) + self.link.delay
        first, period = self.receiver.following(start), self.receiver.period
        if self.is_state and self.windows.number(first) == self.windows.number(stamp):
            return range(0)  # within a window a state is passed on with its graph
        if first >= stop:  # rule 5: a newer one is there by then, beside which `mean` and `concat` read it
            return range(0) if self.read == "last" else range(first, first + 1, period)
        return range(first, stop, period)

    def open(self, step: int, message: Tensor, signals: StepSignals, void: bool, **of: Any) -> MessageRecord:
        """Enter a message [B, …], `void` if it would poison its readers (32); `of`: the record's fields about its ends."""
        ticks = self.schedule(step)
        windows = {self.windows.number(tick) for tick in ticks}
        deadline = self.windows.end(max(windows)) + self.slack if windows else step
        for record in self.returned.get(step, []):  # the gradients of this step have come back by now
            self._note_newest(record)
        sent, lost = value_of(message), self.link.lost(step, len(message), message.device)
        no, unusable = self.nowhere, torch.full_like(self.nowhere, void)
        masks = (no if lost is None else lost, unusable, unusable, no)  # lost, void, no_injection, counts
        received, first = self.link.carry(step, sent), ticks[0] if ticks else None
        record = MessageRecord(step, sent, received, signals, first, windows, deadline, *masks, **of)
        record.returned, record.finished = self.newest, None if ticks else step
        self.records[step] = record
        return record

    def release(self, record: MessageRecord) -> None:
        """Note that the sender has learned from a message, or never will."""
        record.held_by_sender = False

    def forget(self, step: int, read_up_to: int | None) -> None:
        """Drop records of no more use at `step`, unless the mailbox keeps messages and has read less far (rule 17)."""
        due = self.sender.latest(step - self.link.delay)
        for stamp, record in list(self.records.items()):
            if record.finished is None:
                if record.deadline < step:
                    raise EngineError(f"{self.name}: the record of step {stamp} is still open at step {step}")
            elif not record.held_by_sender and due is not None and stamp < due:
                taken_in = read_up_to is None or stamp <= read_up_to
                if taken_in and (record.finished + self.back < step or not record.complete):
                    del self.records[stamp]

    def take(self, step: int) -> list[MessageRecord]:
        """Return the records whose gradient reaches the sender at `step`, once."""
        found = self.returned.pop(step, [])
        for record in found:
            self._note_newest(record)
        return found

    def _note_newest(self, record: MessageRecord) -> None:
        assert record.delta is not None
        before = torch.zeros_like(record.delta) if self.newest is None else self.newest
        newest = torch.where(record.counts.unsqueeze(1), record.delta, before)
        self.newest = mask_fill_zero(~record.void, newest)

    def consume(self, step: int, read: Delivery, *, shared: bool) -> Consumption:
        """Return the use of what a tick at `step` reads; `shared`: whether all ticks of the window have one leaf."""
        assert read.record is not None
        window = self.uses.setdefault(self.windows.number(step), {})
        key = (read.record.stamp, -1 if shared else step)
        if key not in window:
            leaf = as_leaf(read.value) if self.wants_gradient else read.value
            window[key] = Consumption(read.record, leaf, read.counts)
        return window[key]

    def add_gradient(self, use: Consumption, delta: Tensor | None) -> None:
        """Add what one use returns, [B, size] per sample (rule 4); None: the loss does not depend on the message."""
        record = use.record
        record.counts = record.counts | use.counts
        if delta is not None:
            delta = mask_fill_zero(use.counts, delta)
            record.delta = delta if record.delta is None else record.delta + delta

    def add_loss(self, uses: list[Consumption], loss: Tensor) -> None:
        """Add a window's loss [B] to each record it used: once, however many ticks used it (rule 9)."""
        for record in dict.fromkeys(use.record for use in uses):
            counts = torch.stack([use.counts for use in uses if use.record is record]).any(0)
            record.loss = mask_fill_zero(counts, loss) + (0 if record.loss is None else record.loss)

    def replace_gradient(self, record: MessageRecord, delta: Tensor) -> None:
        """Put another gradient in place of what came back: clipped, or a return over several windows (rule 11)."""
        record.delta = delta

    def close(self, window: int, step: int) -> None:
        """Close a receiver window at `step`: it has been learned from, or dropped (rule 17)."""
        self.uses.pop(window, None)
        for record in self.records.values():
            if record.open_windows != {window}:
                record.open_windows.discard(window)
                continue
            record.open_windows.clear()
            record.finished = step
            if record.complete and self.wants_gradient:
                record.delta = torch.zeros_like(record.message) if record.delta is None else record.delta
                self.returned.setdefault(step + self.back, []).append(record)

    def cut(self, step: int, ended: EnvMask, terminated: EnvMask) -> None:
        """Void what was sent where an episode ended at `step`; nothing follows the state of a `terminated` one."""
        if self.is_state and self.wants_gradient:
            self._last_state(step, terminated)
        for record in self.records.values():
            record.void = record.void | ended
            if record.first_use is not None and record.first_use > step:
                record.no_injection = record.no_injection | ended
        if self.newest is not None:
            self.newest = mask_fill_zero(~ended, self.newest)

    def _last_state(self, step: int, terminated: EnvMask) -> None:
        """The gradient of the state that a terminated episode ended with is known: it is zero."""
        stamp = self.sender.latest(step)
        record = None if stamp is None else self.records.get(stamp)
        if record is None or not (last := terminated & ~record.void).any():
            return
        if record.unread:  # made within a window: no use returns anything for it, but it is an example now
            known = replace(record, counts=last, delta=torch.zeros_like(record.message))
            self.returned.setdefault(step + self.back, []).append(known)
        else:
            record.counts = record.counts | last
