"""Mailbox of a channel: what arrives at its receiver, when, and what stands in for it (rules 18, 19, 24, 25)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.engine.heart.message import Record, StepSignals
from antiphon.engine.reference.ledger import EnvMask, GradientLedger, mask_fill_zero

if TYPE_CHECKING:
    from antiphon.engine.heart.channel import Channel


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """What a receiver's tick reads on a channel."""

    record: Record | None
    """Of the message that is due on a perfect link; None: none was sent yet."""
    value: Tensor
    """[B, size]; zeros where nothing has arrived."""
    available: EnvMask
    """Where anything is read."""
    counted: EnvMask
    """Where it is the due message itself, or what stands in for it."""
    predicted: EnvMask
    """Where a synthetic input stands in for it."""
    step_signals: StepSignals
    """Those that it was computed from, for a receiver that works on them."""


class Mailbox:
    """What is computed of the receiver's end of one channel, which is that of the channel as it was built."""

    def __init__(self, channel: Channel, ledger: GradientLedger) -> None:
        built, self.shared = channel.ledger, channel.mailbox
        self.ledger, self.zeros, self.read = ledger, channel.zeros, built.read
        # Whether the newest message that arrived is kept beside the records: on a link that loses, or as a context.
        self.keeps = bool(built.link.drop) or built.remembers

    def due(self, step: int) -> list[int]:
        """Return the stamps that a tick at `step` reads on a perfect link, oldest first (rule 18)."""
        sender, delay = self.ledger.sender, self.ledger.link.delay
        newest = sender.latest(step - delay)
        if newest is None:
            return []
        found = [newest]
        since = step - self.ledger.receiver.period - delay
        while self.read != "last" and (stamp := sender.latest(found[0] - 1)) is not None and stamp > since:
            found.insert(0, stamp)  # `mean` and `concat` read all that came since the receiver's tick before
        return found

    def deliveries(self, step: int) -> list[Delivery]:
        """Return what the tick at `step` reads, oldest first: one message, or as many as `read` puts side by side."""
        records = [self.ledger.records[stamp] for stamp in self.due(step) if stamp in self.ledger.records]
        none = self.ledger.nowhere
        nothing = Delivery(None, self.zeros, none, none, none, StepSignals(-1, {}))
        return [self._delivery(record) for record in records] or [nothing]

    def _delivery(self, due: Record) -> Delivery:
        none, alive, shared = self.ledger.nowhere, ~self.ledger.mask(due.void), self.shared
        if not self.keeps:
            signals = due.step_signals if alive.any() else StepSignals(-1, {})
            return Delivery(due, mask_fill_zero(alive, due.received), alive, alive, none, signals)
        # A link that loses: the newest message that arrived, whatever its age (rule 18).
        if shared.held is None or shared.held_stamp is None:
            shared.held = torch.zeros_like(due.message)
            shared.held_stamp = torch.full((len(shared.held),), -1, device=shared.held.device)
        if due.stamp > self.ledger.shared.read_up_to:
            for stamp, record in self.ledger.records.items():
                if self.ledger.shared.read_up_to < stamp < due.stamp:
                    self._hold(record)
            shared.prior, shared.prior_stamp = shared.held, shared.held_stamp
            self._hold(due)
            self.ledger.shared.read_up_to = due.stamp
        available, counted = shared.held_stamp >= 0, shared.held_stamp == due.stamp
        signals = self._signals_of_held(due.stamp, available) if shared.aligns else due.step_signals
        return Delivery(due, mask_fill_zero(available, shared.held), available, counted, none, signals)

    def _hold(self, record: Record) -> None:
        """Put a message in place of the held one, where it arrived."""
        shared, void = self.shared, self.ledger.mask(record.void)
        assert shared.held is not None
        assert shared.held_stamp is not None
        if void.all():
            return
        here = ~(self.ledger.lost(record) | void)
        if shared.aligns:
            shared.held_signals = _mixed(here, record.step_signals.signals, shared.held_signals)
        shared.held = torch.where(here.unsqueeze(1), record.received, shared.held)
        shared.held_stamp = torch.where(here, record.stamp, shared.held_stamp)

    def _signals_of_held(self, stamp: int, present: EnvMask) -> StepSignals:
        """Signals of what is held, of another step in every environment; absent where nothing is held."""
        held = self.shared.held_signals
        values = {name: value for name, value in held.items() if not name.startswith("_")}
        masks = {f"_{name}": held.get(f"_{name}", present) & present for name in values}
        return StepSignals(stamp, values | masks)

    def stand_in(self, delivery: Delivery, prediction: Tensor, where: EnvMask) -> Delivery:
        """Return the delivery in which `prediction` [B, size] stands in for the due message where `where` holds."""
        assert delivery.record is not None
        value = torch.where(where.unsqueeze(1), prediction, delivery.value)
        signals = delivery.step_signals
        if self.shared.aligns and self.keeps:
            due = delivery.record.step_signals.signals
            signals = StepSignals(signals.step, _mixed(where, due, signals.signals))
        available, counted = delivery.available | where, delivery.counted | where
        return Delivery(delivery.record, value, available, counted, where, signals)

    def age(self, delivery: Delivery, step: int) -> Tensor:
        """Return how old what is read is, [B], in ticks of the sender; 0 where nothing is."""
        age = torch.zeros_like(self.zeros[:, 0])
        if delivery.record is not None:
            age = age + (step - delivery.record.stamp)
            if self.shared.held_stamp is not None:
                age = torch.where(delivery.predicted, age, step - self.shared.held_stamp)
        return mask_fill_zero(delivery.available, age / self.ledger.sender.clock.period)

    def cut(self, ended: EnvMask) -> None:
        """Empty the mailbox in the environments whose episode ended (rule 20)."""
        held, prior = self.shared.held_stamp, self.shared.prior_stamp
        self.shared.held_stamp = None if held is None else torch.where(ended, -1, held)
        self.shared.prior_stamp = None if prior is None else torch.where(ended, -1, prior)


def _mixed(where: EnvMask, one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """Signals `one` where `where` holds, `other` elsewhere; without a mask `_name` a signal is present everywhere."""
    mixed = {}
    for name in dict.fromkeys([*one, *other]) if other else one:
        known = one[name] if name in one else other[name]
        absent = torch.ones_like(known) if name.startswith("_") else known
        rows = where.view(-1, *([1] * (known.dim() - 1)))
        mixed[name] = torch.where(rows, one.get(name, absent), other.get(name, absent)) if other else known
    return mixed
