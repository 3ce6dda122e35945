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
from antiphon.engine.heart.message import Consumption, Record, StepSignals
from antiphon.errors import EngineError

if TYPE_CHECKING:
    from antiphon.comms.synthetic_gradients import ReturnedAction
    from antiphon.engine.heart.channel import Channel

EnvMask = Tensor
"""[B] bool: the parallel environments that something holds for."""


def mask_fill_zero(mask: EnvMask, value: Tensor) -> Tensor:
    """Return `value` [B, …] where `mask` [B] holds, zeros elsewhere: put, never multiplied (rule 19: NaN x 0)."""
    return torch.where(mask.view(-1, *([1] * (value.dim() - 1))), value, torch.zeros_like(value))


def simplified(mask: EnvMask) -> bool | Tensor:
    """Return a mask as shared records have it: one bool where all environments agree."""
    return True if mask.all() else mask if mask.any() else False


class GradientLedger:
    """What is computed of one channel's records, which are those of the channel as it was built."""

    def __init__(self, channel: Channel) -> None:
        built = self.shared = channel.ledger
        self.name, self.link, self.wants_gradient = channel.name, built.link, built.wants_deltas
        self.sender, self.receiver, self.windows = built.sender, built.receiver, built.windows
        self.back, self.slack, self.is_state, self.read = built.back, built.slack, built.state, built.read
        self.nowhere = torch.zeros(len(channel.zeros), dtype=torch.bool, device=channel.zeros.device)

    @property
    def records(self) -> dict[int, Record]:
        """By stamp."""
        return self.shared.records

    def mask(self, mask: bool | Tensor) -> EnvMask:
        """Return a mask of a record, which may be one bool for all environments, as [B]."""
        return mask if isinstance(mask, Tensor) else torch.full_like(self.nowhere, mask)

    def lost(self, record: Record) -> EnvMask:
        """Return where the link lost a message."""
        return self.nowhere if record.lost is None else record.lost

    def schedule(self, stamp: int) -> range:
        """Return the receiver ticks that use the message of `stamp` on a perfect link."""
        start, stop = stamp + self.link.delay, self.sender.after(stamp) + self.link.delay
        first, period = self.receiver.following(start), self.receiver.period
        if self.is_state and self.windows.number(first) == self.windows.number(stamp):
            return range(0)  # within a window a state is passed on with its graph
        if first >= stop:  # rule 5: a newer one is there by then, beside which `mean` and `concat` read it
            return range(0) if self.read == "last" else range(first, first + 1, period)
        return range(first, stop, period)

    def open(self, step: int, message: Tensor, signals: StepSignals, void: bool, **of: Any) -> Record:
        """Enter a message [B, …], `void` if it would poison its readers (32); `of`: the record's fields about its ends."""
        ticks = self.schedule(step)
        windows = {self.windows.number(tick) for tick in ticks}
        deadline = self.windows.end(max(windows)) + self.slack if windows else step
        for record in self.shared.completed.get(step, []):  # the gradients of this step have come back by now
            self._note_newest(record)
        sent, first = value_of(message), ticks[0] if ticks else None
        record = Record(step, sent, self.link.carry(step, sent), signals, first, windows, deadline, **of)
        record.lost = self.link.lost(step, len(message), message.device)
        record.void = record.no_injection = void
        record.returned, record.finished = self.shared.newest, None if ticks else step
        self.records[step] = record
        return record

    def release(self, record: Record) -> None:
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

    def take(self, step: int) -> list[Record]:
        """Return the records whose gradient reaches the sender at `step`, once."""
        found = self.shared.completed.pop(step, [])
        for record in found:
            self._note_newest(record)
        return found

    def _note_newest(self, record: Record) -> None:
        assert record.delta is not None
        before = torch.zeros_like(record.delta) if self.shared.newest is None else self.shared.newest
        newest = torch.where(self.mask(record.counted).unsqueeze(1), record.delta, before)
        self.shared.newest = mask_fill_zero(~self.mask(record.void), newest)

    def consume(
        self, step: int, record: Record, value: Tensor, counted: EnvMask, *, shared: bool
    ) -> Consumption:
        """Return the use of what a tick at `step` reads; `shared`: whether all ticks of the window have one leaf."""
        window = self.shared.uses.setdefault(self.windows.number(step), {})
        key = (record.stamp, -1 if shared else step)
        if key not in window:
            leaf = as_leaf(value) if self.wants_gradient else value
            window[key] = Consumption(record, leaf, simplified(counted))
        return window[key]

    def add_gradient(self, use: Consumption, delta: Tensor | None) -> None:
        """Add what one use returns, [B, size] per sample (rule 4); None: the loss does not depend on the message."""
        record, counted = use.record, self.mask(use.counted)
        record.counted = simplified(self.mask(record.counted) | counted)
        if delta is not None:
            delta = mask_fill_zero(counted, delta)
            record.delta = delta if record.delta is None else record.delta + delta

    def add_loss(self, uses: list[Consumption], loss: Tensor) -> None:
        """Add a window's loss [B] to each record it used: once, however many ticks used it (rule 9)."""
        for record in dict.fromkeys(use.record for use in uses):
            counted = torch.stack([self.mask(use.counted) for use in uses if use.record is record]).any(0)
            record.loss = mask_fill_zero(counted, loss) + (0 if record.loss is None else record.loss)

    def add_action(self, use: Consumption, returned: ReturnedAction) -> None:
        """Add what the receiver did at a tick that used a message (rule 9)."""
        use.record.actions.append(returned)

    def replace_gradient(self, record: Record, delta: Tensor) -> None:
        """Put another gradient in place of what came back: clipped, or a return over several windows (rule 11)."""
        record.delta = delta

    def close(self, window: int, step: int) -> None:
        """Close a receiver window at `step`: it has been learned from, or dropped (rule 17)."""
        self.shared.uses.pop(window, None)
        for record in self.records.values():
            if record.waiting != {window}:
                record.waiting.discard(window)
                continue
            record.waiting.clear()
            record.finished = step
            if record.complete and self.wants_gradient:
                record.delta = torch.zeros_like(record.message) if record.delta is None else record.delta
                self.shared.completed.setdefault(step + self.back, []).append(record)

    def cut(self, step: int, ended: EnvMask, terminated: EnvMask) -> None:
        """Void what was sent where an episode ended at `step`; nothing follows the state of a `terminated` one."""
        if self.is_state and self.wants_gradient:
            self._last_state(step, terminated)
        for record in self.records.values():
            record.void = simplified(self.mask(record.void) | ended)
            if record.first_use is not None and record.first_use > step:
                record.no_injection = simplified(self.mask(record.no_injection) | ended)
        if self.shared.newest is not None:
            self.shared.newest = mask_fill_zero(~ended, self.shared.newest)

    def _last_state(self, step: int, terminated: EnvMask) -> None:
        """The gradient of the state that a terminated episode ended with is known: it is zero."""
        stamp = self.sender.latest(step)
        record = None if stamp is None else self.records.get(stamp)
        if record is None or not (last := terminated & ~self.mask(record.void)).any():
            return
        if record.unread:  # made within a window: no use returns anything for it, but it is an example now
            known = replace(record, counted=simplified(last), delta=torch.zeros_like(record.message))
            self.shared.completed.setdefault(step + self.back, []).append(known)
        else:
            record.counted = simplified(self.mask(record.counted) | last)
