"""Mailbox of a channel: what arrives at its receiver, and when; the newest arrival is held (semantics 18).

What stands in for a message that has not come is decided in `engine/features/stand_ins.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.engine.heart.ledger import GradientLedger
from antiphon.engine.heart.message import Delivery, Record, StepSignals
from antiphon.engine.heart.rows import EnvMask, mask_fill_zero, mask_not, mask_or
from antiphon.nets.step_numbers import stamp_number

__all__ = ["Mailbox"]


@dataclass
class Mailbox:
    """The receiver's end of one channel.

    Attributes:
        ledger: The channel's, whose records are read.
        aligns: Whether the receiver works on the signals of the message it reads.
    """

    ledger: GradientLedger
    aligns: bool = False
    held: Tensor | None = None
    """[B, size], on a link that loses, or where it is remembered: the newest message that arrived."""
    held_stamp: Tensor | None = None
    """[B], its stamp; -1: none."""
    held_signals: dict[str, Tensor] = field(default_factory=dict)
    """The signals that the held message was made from, where the receiver works on them."""
    prior: Tensor | None = None
    """[B, size]: what was held before the due message."""
    prior_stamp: Tensor | None = None
    """[B], its stamp; -1: none."""

    def due(self, step: int) -> list[int]:
        """Return the stamps that reach the receiver's tick at `step`, oldest first; empty before the first."""
        sender, delay = self.ledger.sender, self.ledger.link.delay
        newest = sender.latest(step - delay)
        if newest is None:
            return []
        found = [newest]
        if self.ledger.read != "last":
            since = step - self.ledger.receiver.period - delay
            while (stamp := sender.latest(found[0] - 1)) is not None and stamp > since:
                found.insert(0, stamp)
        return found

    def receive_all(self, step: int) -> list[Delivery]:
        """Return what the receiver's tick at `step` finds, oldest first: one, or as many as `read` puts side by side."""
        if self.ledger.read == "last":
            return [self.receive(step)]
        due = [found for stamp in self.due(step) if (found := self.receive(step, stamp)).record is not None]
        return due or [Delivery(None, None, False, False)]

    def receive(self, step: int, stamp: int | None = None) -> Delivery:
        """Return a message that the receiver's tick at `step` finds (semantics 18).

        Args:
            step: The tick's.
            stamp: When it was sent; None: the newest.
        """
        ledger = self.ledger
        if stamp is None:
            stamp = ledger.sender.latest(step - ledger.link.delay)
        record = None if stamp is None else ledger.records.get(stamp)
        if record is None:
            return Delivery(None, None, False, False)
        if record.lost is not None or ledger.remembers:
            return self._receive_held(record)
        if record.void is False:
            return Delivery(record, record.received, True, True)
        if record.void is True:
            return Delivery(record, None, False, False)
        valid = mask_not(record.void)
        return Delivery(record, mask_fill_zero(valid, record.received), valid, valid)

    def _receive_held(self, due: Record) -> Delivery:
        if self.held is None or self.held_stamp is None:
            self.held = torch.zeros_like(due.message)
            self.held_stamp = torch.full((due.message.shape[0],), -1, device=due.message.device)
        ledger = self.ledger
        if due.stamp > ledger.read_up_to:
            for stamp, record in ledger.records.items():
                if ledger.read_up_to < stamp < due.stamp:
                    self._hold(record)
            self.prior, self.prior_stamp = self.held, self.held_stamp
            self._hold(due)
            ledger.read_up_to = due.stamp
        available = self.held_stamp >= 0
        step_signals = self._signals_of_held(due, available) if self.aligns else None
        counted = self.held_stamp == stamp_number(due.stamp)
        return Delivery(
            due,
            mask_fill_zero(available, self.held),
            available,
            counted,
            self._arrives(due),
            step_signals=step_signals,
        )

    def _arrives(self, due: Record) -> bool | None:
        """Whether a message arrives in any environment, as far as the host knows; on the CPU a look costs less."""
        if due.lost is None or due.lost.device.type == "cpu" or isinstance(due.void, Tensor):
            return None
        if self.ledger.read != "last":  # a newer one may be held
            return None
        return not due.void and self.ledger.link.arrives(due.stamp, len(due.lost))

    def keep(self, record: Record) -> None:
        """Keep a message that has arrived, for ticks that find no newer one, on a link that loses nothing by itself."""
        if record.lost is None and not self.ledger.remembers:
            self.held = record.received
            rows = torch.zeros(len(record.received), dtype=torch.int64, device=record.received.device)
            self.held_stamp = rows + stamp_number(record.stamp)
            self.held_signals = dict(record.step_signals.signals) if self.aligns else {}
            self.ledger.read_up_to = record.stamp

    def _signals_of_held(self, due: Record, available: Tensor) -> StepSignals:
        """The signals of what is held, which may be of another step in every environment; absent where nothing is."""
        signals = {name: value for name, value in self.held_signals.items() if not name.startswith("_")}
        present = {f"_{name}": self.held_signals.get(f"_{name}", available) & available for name in signals}
        return StepSignals(due.stamp, signals | present)

    def _hold(self, record: Record) -> None:
        """Take a message that arrived in place of the one held, where it did."""
        missing = mask_or(False if record.lost is None else record.lost, record.void)
        if missing is True or self.held is None or self.held_stamp is None:
            return
        stamp = torch.zeros_like(self.held_stamp) + stamp_number(record.stamp)
        if self.aligns:
            self.held_signals = _mixed(mask_not(missing), record.step_signals.signals, self.held_signals)
        if missing is False:
            self.held, self.held_stamp = record.received, stamp
        else:
            self.held = torch.where(missing.unsqueeze(1), self.held, record.received)
            self.held_stamp = torch.where(missing, self.held_stamp, stamp)

    def stand_in(self, delivery: Delivery, value: Tensor, mask: EnvMask) -> Delivery:
        """Return a delivery in which `value` [B, size] stands in for the due message in `mask`."""
        if isinstance(mask, Tensor):
            before = torch.zeros_like(value) if delivery.value is None else delivery.value
            value = torch.where(mask.unsqueeze(1), value, before)
        available, counted = mask_or(delivery.available, mask), mask_or(delivery.counted, mask)
        step_signals = delivery.step_signals
        if step_signals is not None and delivery.record is not None:
            step_signals = StepSignals(
                step_signals.step, _mixed(mask, delivery.record.step_signals.signals, step_signals.signals)
            )
        return Delivery(
            delivery.record, value, available, counted, delivery.somewhere or None, mask, step_signals
        )

    def cut(self, ended: EnvMask) -> None:
        """Empty the mailbox in the environments whose episode ended (semantics 20)."""
        self.held_stamp = _forgotten(self.held_stamp, ended)
        self.prior_stamp = _forgotten(self.prior_stamp, ended)


def _forgotten(stamp: Tensor | None, ended: EnvMask) -> Tensor | None:
    if stamp is None:
        return None
    return torch.where(mask_fill_zero(ended, torch.ones_like(stamp)) > 0, -1, stamp)


def _mixed(mask: EnvMask, one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """The signals `one` in `mask`, and `other` elsewhere; a mask `_name` that one of them lacks is all present."""
    if mask is True or not other:
        return dict(one)
    mixed = {}
    for name in dict.fromkeys([*one, *other]):
        value = one.get(name, other.get(name))
        assert value is not None
        full = torch.ones_like(value) if name.startswith("_") else value
        mine, theirs = one.get(name, full), other.get(name, full)
        where = (
            mask
            if isinstance(mask, Tensor)
            else torch.zeros(len(value), dtype=torch.bool, device=value.device)
        )
        mixed[name] = torch.where(where.view(-1, *([1] * (value.dim() - 1))), mine, theirs)
    return mixed
