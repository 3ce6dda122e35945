"""Mailbox of a channel: what arrives at its receiver, when, and what stands in for it (rules 18, 19, 24, 25)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.engine.reference.ledger import GradientLedger, mask_fill_zero
from antiphon.engine.reference.records import Delivery, EnvMask, MessageRecord, StepSignals

if TYPE_CHECKING:
    from antiphon.engine.core.channel import Channel


class Mailbox:
    """The receiver's end of one channel, whose records are the ledger's."""

    def __init__(self, channel: Channel, ledger: GradientLedger) -> None:
        built, self.aligns = channel.ledger, channel.mailbox.aligns
        self.ledger, self.zeros, self.read = ledger, channel.zeros, built.read
        # Whether the newest message that arrived is kept beside the records: on a link that loses, or as a context.
        self.keeps = bool(built.link.drop) or built.remembers
        self.held: Tensor | None = None  # [B, size]: the newest message that arrived in each environment
        self.held_stamp: Tensor | None = None  # [B] int64, its stamp; -1: none
        self.held_signals: dict[str, Tensor] = {}  # those it was computed from, where the receiver is aligned
        self.prior: Tensor | None = None  # [B, size]: what was held before the due message (context `held`)
        self.prior_stamp: Tensor | None = None  # [B] int64, its stamp; -1: none
        self.arrived = -1  # newest stamp that `held` takes into account

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

    def _delivery(self, due: MessageRecord) -> Delivery:
        none, alive = self.ledger.nowhere, ~due.void
        if not self.keeps:
            signals = due.signals if alive.any() else StepSignals(-1, {})
            return Delivery(due, mask_fill_zero(alive, due.received), alive, alive, none, signals)
        # A link that loses: the newest message that arrived, whatever its age (rule 18).
        if self.held is None or self.held_stamp is None:
            self.held = torch.zeros_like(due.message)
            self.held_stamp = torch.full((len(self.held),), -1, device=self.held.device)
        if due.stamp > self.arrived:
            for stamp, record in self.ledger.records.items():
                if self.arrived < stamp < due.stamp:
                    self._hold(record)
            self.prior, self.prior_stamp = self.held, self.held_stamp
            self._hold(due)
            self.arrived = due.stamp
        present, counts = self.held_stamp >= 0, self.held_stamp == due.stamp
        signals = self._signals_of_held(due.stamp, present) if self.aligns else due.signals
        return Delivery(due, mask_fill_zero(present, self.held), present, counts, none, signals)

    def _hold(self, record: MessageRecord) -> None:
        """Put a message in place of the held one, where it arrived."""
        assert self.held is not None
        if record.void.all():
            return
        here = ~(record.lost | record.void)
        if self.aligns:
            self.held_signals = _mixed(here, record.signals.values, self.held_signals)
        self.held = torch.where(here.unsqueeze(1), record.received, self.held)
        self.held_stamp = torch.where(here, record.stamp, self.held_stamp)  # type: ignore[arg-type]

    def _signals_of_held(self, stamp: int, present: EnvMask) -> StepSignals:
        """Signals of what is held, of another step in every environment; absent where nothing is held."""
        values = {name: value for name, value in self.held_signals.items() if not name.startswith("_")}
        masks = {f"_{name}": self.held_signals.get(f"_{name}", present) & present for name in values}
        return StepSignals(stamp, values | masks)

    def stand_in(self, delivery: Delivery, prediction: Tensor, where: EnvMask) -> Delivery:
        """Return the delivery in which `prediction` [B, size] stands in for the due message where `where` holds."""
        assert delivery.record is not None
        value = torch.where(where.unsqueeze(1), prediction, delivery.value)
        signals = delivery.signals
        if self.aligns and self.keeps:
            signals = StepSignals(signals.step, _mixed(where, delivery.record.signals.values, signals.values))
        present, counts = delivery.present | where, delivery.counts | where
        return Delivery(delivery.record, value, present, counts, where, signals)

    def age(self, delivery: Delivery, step: int) -> Tensor:
        """Return how old what is read is, [B], in ticks of the sender; 0 where nothing is."""
        age = torch.zeros_like(self.zeros[:, 0])
        if delivery.record is not None:
            age = age + (step - delivery.record.stamp)
            if self.held_stamp is not None:
                age = torch.where(delivery.predicted, age, step - self.held_stamp)
        return mask_fill_zero(delivery.present, age / self.ledger.sender.clock.period)

    def cut(self, ended: EnvMask) -> None:
        """Empty the mailbox in the environments whose episode ended (rule 20)."""
        self.held_stamp = None if self.held_stamp is None else torch.where(ended, -1, self.held_stamp)
        self.prior_stamp = None if self.prior_stamp is None else torch.where(ended, -1, self.prior_stamp)


def _mixed(where: EnvMask, one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """Signals `one` where `where` holds, `other` elsewhere; without a mask `_name` a signal is present everywhere."""
    mixed = {}
    for name in dict.fromkeys([*one, *other]) if other else one:
        known = one[name] if name in one else other[name]
        absent = torch.ones_like(known) if name.startswith("_") else known
        rows = where.view(-1, *([1] * (known.dim() - 1)))
        mixed[name] = torch.where(rows, one.get(name, absent), other.get(name, absent)) if other else known
    return mixed
