"""The ledger of a channel: who owns each message between its making and its gradient (semantics 4, 5, 17-20).

One record per stamp. Which stamp a receiver tick is due, which ticks may use a stamp, and which windows must
close before its delta is complete follow from the clocks alone; losses and episode ends only decide, per
environment, what counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from antiphon.comms.credit import as_leaf, value_of
from antiphon.comms.links import Link
from antiphon.engine.core.clock import Clock, Sends, Windows
from antiphon.engine.core.message import Consumption, Delivery, Record, StepSignals
from antiphon.engine.core.rows import EnvMask, mask_and, mask_fill_zero, mask_not, mask_or, simplify
from antiphon.errors import EngineError

__all__ = ["Consumption", "Delivery", "Ledger", "Record"]


@dataclass
class Ledger:
    """The records of one channel.

    Attributes:
        name: The channel's name.
        sender: When the sender sends.
        receiver: The receiver's clock.
        windows: The receiving unit's windows.
        link: Delay and losses.
        returns: Whether deltas are wanted; where not, uses are only counted.
        back: Steps that a delta takes back to the sender; negative: as many as a message takes.
        slack: Steps that a record may stay open beyond its last window (a late receiver's staleness).
        remembers: Whether the message before the due one is kept, for a synthetic input that reads it.
        aligns: Whether the receiver works on the signals of the message it reads.
        read: What a tick that several messages reach since the one before it does with them.
        state: Whether the messages are states that an agent hands to its own next tick.
    """

    name: str
    sender: Sends
    receiver: Clock
    windows: Windows
    link: Link
    returns: bool
    back: int = -1
    slack: int = 0
    remembers: bool = False
    aligns: bool = False
    read: str = "last"
    state: bool = False
    records: dict[int, Record] = field(default_factory=dict)
    uses: dict[int, dict[tuple[int, int], Consumption]] = field(default_factory=dict)
    """Per open receiver window: uses by (stamp, tick step; -1 where every use shares one leaf)."""
    returned: dict[int, list[Record]] = field(default_factory=dict)
    """Complete records by the step at which their delta reaches the sender."""
    newest: Tensor | None = None
    """[B, size]: the newest delta that has come back, zeros where that episode has ended."""
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
    arrived: int = -1
    """Newest stamp already taken into `held`."""

    def __post_init__(self) -> None:
        if self.back < 0:
            self.back = self.link.delay

    def send(self, step: int, message: Tensor, step_signals: StepSignals) -> Record:
        """Enter a message made at `step` and return its record."""
        first, last = self._scheduled(step)
        waiting: set[int] = set()
        deadline = step
        if first is not None:
            ticks = range(first, last + 1, self.receiver.period)
            waiting = {self.windows.number(tick) for tick in ticks}  # a window without a tick never closes
            deadline = self.windows.end(max(waiting)) + self.slack
        sent = value_of(message)
        received = self.link.carry(step, sent)
        record = Record(step, sent, received, step_signals, first, waiting, deadline, live=message)
        record.lost = self.link.lost(step, message.shape[0], message.device)
        record.returned = self._newest(step)
        if first is None:
            record.finished = step
        self._forget(step)
        self.records[step] = record
        return record

    def _scheduled(self, stamp: int) -> tuple[int | None, int]:
        """First and last receiver tick that a perfect link lets use `stamp` (None, …) where there is none."""
        start = stamp + self.link.delay
        stop = self.sender.after(stamp) + self.link.delay
        first = self.receiver.following(start)
        if self.state and self.windows.number(first) == self.windows.number(stamp):
            return None, stamp  # within a window a state is passed on with its graph
        if first >= stop:
            return (None, stamp) if self.read == "last" else (first, first)
        last = self.receiver.latest(stop - 1)
        assert last is not None
        return first, last

    def is_read(self, stamp: int) -> bool:
        """Whether the schedule lets a message of `stamp` be read: a state, by another window than its own."""
        return self._scheduled(stamp)[0] is not None

    def _newest(self, step: int) -> Tensor | None:
        """The newest delta that the sender can know of when it ticks at `step`: it arrives as messages do."""
        for record in self.returned.get(step, []):
            self._remember(record)
        return self.newest

    def _remember(self, record: Record) -> None:
        assert record.delta is not None
        before = torch.zeros_like(record.delta) if self.newest is None else self.newest
        if isinstance(record.counted, Tensor):  # where nothing came back, the one before is still the newest
            newest = torch.where(record.counted.unsqueeze(1), record.delta, before)
        else:
            newest = record.delta
        self.newest = mask_fill_zero(mask_not(record.void), newest)

    def _forget(self, step: int) -> None:
        """Drop records that nobody can ask for any more, and check that none has been left open."""
        newest = self.sender.latest(step - self.link.delay)
        for stamp, record in list(self.records.items()):
            if record.finished is None:
                if record.deadline < step:
                    raise EngineError(f"{self.name}: the record of step {stamp} is still open at step {step}")
            elif not record.held_by_sender and newest is not None and stamp < newest:
                if (self.link.drop or self.remembers) and stamp > self.arrived:
                    continue
                if record.finished + self.back < step or not record.complete:
                    del self.records[stamp]

    def receive_all(self, step: int) -> list[Delivery]:
        """Return what the receiver's tick at `step` finds, oldest first: one reading, or as many as `read` asks for."""
        if self.read == "last":
            return [self.receive(step)]
        due = [reading for stamp in self.due(step) if (reading := self._reading(stamp)).record is not None]
        return due or [Delivery(None, None, False, False)]

    def due(self, step: int) -> list[int]:
        """Return the stamps that reach the receiver's tick at `step`, oldest first; empty before the first."""
        newest = self.sender.latest(step - self.link.delay)
        if newest is None:
            return []
        found = [newest]
        if self.read != "last":
            since = step - self.receiver.period - self.link.delay
            while (stamp := self.sender.latest(found[0] - 1)) is not None and stamp > since:
                found.insert(0, stamp)
        return found

    def receive(self, step: int) -> Delivery:
        """Return the newest message that the receiver's tick at `step` finds (semantics 18)."""
        return self._reading(self.sender.latest(step - self.link.delay))

    def _reading(self, stamp: int | None) -> Delivery:
        record = None if stamp is None else self.records.get(stamp)
        if record is None or stamp is None:
            return Delivery(None, None, False, False)
        if record.lost is not None or self.remembers:
            return self._receive_held(record)
        if record.void is False:
            return Delivery(record, record.received, True, True)
        if record.void is True:
            return Delivery(record, None, False, False)
        alive = mask_not(record.void)
        return Delivery(record, mask_fill_zero(alive, record.received), alive, alive)

    def _receive_held(self, due: Record) -> Delivery:
        if self.held is None or self.held_stamp is None:
            self.held = torch.zeros_like(due.message)
            self.held_stamp = torch.full((due.message.shape[0],), -1, device=due.message.device)
        if due.stamp > self.arrived:
            for stamp, record in self.records.items():
                if self.arrived < stamp < due.stamp:
                    self._hold(record)
            self.prior, self.prior_stamp = self.held, self.held_stamp
            self._hold(due)
            self.arrived = due.stamp
        available = self.held_stamp >= 0
        step_signals = self._signals_of_held(due, available) if self.aligns else None
        counted = self.held_stamp == due.stamp
        return Delivery(
            due, mask_fill_zero(available, self.held), available, counted, step_signals=step_signals
        )

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
        stamp = torch.full_like(self.held_stamp, record.stamp)
        if self.aligns:
            self.held_signals = _mixed(mask_not(missing), record.step_signals.signals, self.held_signals)
        if missing is False:
            self.held, self.held_stamp = record.received, stamp
        else:
            self.held = torch.where(missing.unsqueeze(1), self.held, record.received)
            self.held_stamp = torch.where(missing, self.held_stamp, stamp)

    def missing(self, reading: Delivery, *, always: bool) -> EnvMask:
        """Return the environments in which the due message is missing, though its example goes on.

        Args:
            reading: What the tick found.
            always: Whether it counts as missing even where it has come (`unlocked`).
        """
        if reading.record is None:
            return False
        alive = mask_not(reading.record.void)
        if always or alive is False:
            return alive
        if reading.counted is True:
            return False
        absent = mask_not(reading.counted)
        return mask_and(alive, absent)

    def stand_in(self, reading: Delivery, value: Tensor, mask: EnvMask) -> Delivery:
        """Return a reading in which `value` [B, size] stands in for the due message in `lanes`."""
        if isinstance(mask, Tensor):
            before = torch.zeros_like(value) if reading.value is None else reading.value
            value = torch.where(mask.unsqueeze(1), value, before)
        available, counted = mask_or(reading.available, mask), mask_or(reading.counted, mask)
        step_signals = reading.step_signals
        if step_signals is not None and reading.record is not None:
            step_signals = StepSignals(
                step_signals.step, _mixed(mask, reading.record.step_signals.signals, step_signals.signals)
            )
        return Delivery(reading.record, value, available, counted, mask, step_signals)

    def use(self, step: int, reading: Delivery) -> Consumption | None:
        """Book that the tick at `step` consumed `reading`, and return the leaf it may differentiate."""
        if reading.record is None or reading.value is None or reading.counted is False:
            return None
        window = self.uses.setdefault(self.windows.number(step), {})
        shared = reading.counted is True and reading.stand_in_mask is False
        key = (reading.record.stamp, -1 if shared else step)
        if key not in window:
            leaf = as_leaf(reading.value) if self.returns else reading.value
            window[key] = Consumption(reading.record, leaf, reading.counted)
        return window[key]

    def book(self, use: Consumption, delta: Tensor | None) -> None:
        """Add a counted use's delta, [B, size] per sample (None: the loss does not depend on it)."""
        record = use.record
        record.counted = mask_or(record.counted, use.counted)
        if delta is not None:
            delta = mask_fill_zero(use.counted, delta)
            record.delta = delta if record.delta is None else record.delta + delta

    @staticmethod
    def book_loss(uses: Sequence[Consumption], loss: Tensor) -> None:
        """Add a window's loss [B] to each record that it used: once, in however many ticks that was."""
        used: dict[int, tuple[Record, EnvMask]] = {}
        for use in uses:
            _, before = used.get(id(use.record), (use.record, False))
            used[id(use.record)] = use.record, mask_or(before, use.counted)
        for record, mask in used.values():
            told = mask_fill_zero(mask, loss)
            record.loss = told if record.loss is None else record.loss + told

    def close(self, window: int, step: int) -> None:
        """Note that the receiver's `window` has been learned (or dropped) at `step`."""
        self.uses.pop(window, None)
        for record in self.records.values():
            if window in record.waiting:
                record.waiting.discard(window)
                if not record.waiting:
                    self._finish(record, step)

    def _finish(self, record: Record, step: int) -> None:
        record.finished = step
        if isinstance(record.counted, Tensor) and not bool(record.counted.any()):
            record.counted = False
        if record.complete and self.returns:
            if record.delta is None:
                record.delta = torch.zeros_like(record.message)
            self.returned.setdefault(step + self.back, []).append(record)

    def take(self, step: int) -> list[Record]:
        """Return the records whose delta reaches the sender at `step`, once."""
        for record in self.returned.get(step, []):
            self._remember(record)
        return self.returned.pop(step, [])

    def cut(self, step: int, ended: EnvMask, terminated: EnvMask = False) -> None:
        """Void what is held or in flight in the environments whose episode ended at `step` (semantics 20).

        Args:
            step: The step just taken; nobody has learned at it yet.
            ended: Where an episode ended.
            terminated: Where it ended for good, not by a limit of time: after such a state nothing follows.
        """
        if self.state and self.returns and terminated is not False:
            self._last_state(step, terminated)
        for record in self.records.values():
            record.void = simplify(mask_or(record.void, ended))
            if record.first_use is not None and record.first_use > step:
                record.no_injection = simplify(mask_or(record.no_injection, ended))
        if self.newest is not None:
            self.newest = mask_fill_zero(mask_not(ended), self.newest)
        if self.held_stamp is not None:
            self.held_stamp = self._forgotten(self.held_stamp, ended)
        if self.prior_stamp is not None:
            self.prior_stamp = self._forgotten(self.prior_stamp, ended)

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
            self.returned.setdefault(step + self.back, []).append(known)
        else:
            record.counted = mask_or(record.counted, last)

    @staticmethod
    def _forgotten(stamp: Tensor, ended: EnvMask) -> Tensor:
        return torch.where(mask_fill_zero(ended, torch.ones_like(stamp)) > 0, -1, stamp)


def _mixed(mask: EnvMask, one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """The signals `one` in `lanes`, and `other` elsewhere; a mask `_name` that one of them lacks is all present."""
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
