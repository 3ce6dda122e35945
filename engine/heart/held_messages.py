"""Held messages: the newest arrival, for where messages are lost, and for synthetic inputs (rule 18, reads)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.base.mask import ALL, NONE, Mask
from antiphon.engine.heart.message import Arrival, Message
from antiphon.engine.heart.roles import PLAIN, ROWS
from antiphon.engine.heart.signals import StepSignals
from antiphon.nets.step_numbers import stamp_number


@dataclass
class HeldMessages:
    """What the receivers of a stack of channels hold of what has arrived.

    Attributes:
        value: [rows, size], the newest message that had arrived when `hold` was last called; None: none has been held
            yet.
        stamp: [rows], the stamp of the held message; -1: none is held.
        signals: The signals that the held message was made from, where the receiver is aligned.
        prior_value: [rows, size], what was held before the newest due message; where that was lost, it is the held one
            still. Contexts of synthetic inputs read it (features/contexts.py).
        prior_stamp: [rows], the stamp of the prior message; -1: none was held.
        newest_stamp: The stamp of the newest message that `hold` was called with, arrived or not.
    """

    value: Tensor | None = field(default=None, metadata=ROWS)
    stamp: Tensor | None = field(default=None, metadata=ROWS)
    signals: dict[str, Tensor] = field(default_factory=dict, metadata=ROWS)
    prior_value: Tensor | None = field(default=None, metadata=ROWS)
    prior_stamp: Tensor | None = field(default=None, metadata=ROWS)
    newest_stamp: int = field(default=-1, metadata=PLAIN)

    def hold(self, arrived: Iterable[Message], due_message: Message, *, aligned: bool) -> None:
        """Hold the due message; where it has not arrived, the newest one before it that has.

        Only its first tick changes anything.

        Args:
            arrived: The messages whose time on the way is over at the tick (`Timetable.arrival_of`); of those that are
                older than one already called with, none is held.
            due_message: The newest message that reaches the tick.
            aligned: Whether signals are held too, as the receiver works on those of the message that it reads.
        """
        if due_message.stamp <= self.newest_stamp:
            return
        if self.value is None or self.stamp is None:
            self.value = torch.zeros_like(due_message.sent_value)
            self.stamp = torch.full(
                (due_message.sent_value.shape[0],), -1, device=due_message.sent_value.device
            )
        for message in sorted(arrived, key=lambda message: message.stamp):
            if self.newest_stamp < message.stamp < due_message.stamp:
                self._hold_arrived(message, aligned=aligned)
        self.prior_value, self.prior_stamp = self.value, self.stamp
        self._hold_arrived(due_message, aligned=aligned)
        self.newest_stamp = due_message.stamp

    def arrival(
        self, due_message: Message, oldest_stamp: int, *, known_to_arrive: bool | None, aligned: bool
    ) -> Arrival:
        """Return what a tick reads: the due message where it has arrived, and elsewhere the one that is held.

        Args:
            due_message: The newest message that reaches the tick; `hold` has been called with it.
            oldest_stamp: Stamp of the oldest message that the tick reads. A message in between is read by itself, and
                does not also stand in for the newest.
            known_to_arrive: Whether the due message arrives in any row, as far as the host knows; None: a look at its
                mask shows it.
        """
        assert self.value is not None
        assert self.stamp is not None
        held_rows = self.stamp >= 0
        if oldest_stamp < due_message.stamp:
            held_rows &= (self.stamp < oldest_stamp) | (self.stamp == due_message.stamp)
        available = Mask.of(held_rows)
        return Arrival(
            due_message,
            self.value,
            available,
            may_count=Mask.of(self.stamp == stamp_number(due_message.stamp), known_to_arrive),
            step_signals=self._held_signals(due_message, available) if aligned else None,
        )

    def _held_signals(self, due_message: Message, available: Mask) -> StepSignals:
        """The signals of the held messages, whose steps may differ by environment; absent where none is held."""
        signals = {name: value for name, value in self.signals.items() if not name.startswith("_")}
        rows = available.tensor(len(due_message.sent_value), due_message.sent_value.device)
        present = {
            f"_{name}": available.zero_elsewhere(self.signals.get(f"_{name}", rows)) for name in signals
        }
        return StepSignals(due_message.stamp, signals | present)

    def _hold_arrived(self, message: Message, *, aligned: bool) -> None:
        """Replace the held message where this one has arrived."""
        missing = message.missing
        if missing is ALL or self.value is None or self.stamp is None:
            return
        stamp = torch.zeros_like(self.stamp) + stamp_number(message.stamp)
        if aligned:
            self.signals = merged_signals(~missing, message.step_signals.signals, self.signals)
        self.value = missing.where(self.value, message.carried_value)
        self.stamp = missing.where(self.stamp, stamp)

    def hold_crossed(self, message: Message, *, aligned: bool) -> None:
        """Hold a message that has crossed from another part, for ticks that find no newer one: any may come too
        late."""
        if message.fate.lost is NONE:
            self.value = message.carried_value
            rows = torch.zeros(
                len(message.carried_value), dtype=torch.int64, device=message.carried_value.device
            )
            self.stamp = rows + stamp_number(message.stamp)
            self.signals = dict(message.step_signals.signals) if aligned else {}
            self.newest_stamp = message.stamp

    def forget(self, ended_rows: Mask) -> None:
        """Forget the held and the prior message where the episode ended (rule 20, ends of episodes)."""
        self.stamp = _forgotten(self.stamp, ended_rows)
        self.prior_stamp = _forgotten(self.prior_stamp, ended_rows)


def _forgotten(stamp: Tensor | None, ended_rows: Mask) -> Tensor | None:
    return None if stamp is None else ended_rows.where(torch.full_like(stamp, -1), stamp)


def merged_signals(mask: Mask, inside: dict[str, Tensor], outside: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `inside` where the mask holds, and `outside` elsewhere; a mask `_name` that one lacks holds everywhere."""
    if mask is ALL or not outside:
        return dict(inside)
    signals = {}
    for name in dict.fromkeys([*inside, *outside]):
        value = inside.get(name, outside.get(name))
        assert value is not None
        full = torch.ones_like(value) if name.startswith("_") else value
        signals[name] = mask.where(inside.get(name, full), outside.get(name, full))
    return signals
