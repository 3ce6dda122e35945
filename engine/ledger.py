"""The ledger of a channel: who owns each message between its making and its gradient (semantics 4, 5, 17-20).

One record per stamp. Which stamp a receiver tick is due, which ticks may use a stamp, and which windows must
close before its delta is complete follow from the clocks alone; losses and episode ends only decide, per
environment, what counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.comms.cut import as_leaf, value_of
from antiphon.comms.link import Link
from antiphon.engine.clock import Clock, Windows
from antiphon.engine.moment import Lanes, Moment, besides, either, lanes_where
from antiphon.errors import EngineError

__all__ = ["Ledger", "Reading", "Record", "Use"]


@dataclass(slots=True, eq=False)
class Record:
    """One message: what was sent, and what has come back."""

    stamp: int
    message: Tensor
    """[B, size], as sent."""
    moment: Moment
    """The signals it was made from."""
    first_use: int | None
    """First receiver tick that the schedule lets use it; None: it will be replaced unread."""
    waiting: set[int]
    """Receiver windows that may hold uses and have not closed."""
    deadline: int
    """Step after which an open record is an engine error."""
    returned: Tensor | None = None
    """[B, size]: the newest delta that had come back when it was sent, for predictors conditioned on it."""
    lost: Tensor | None = None
    """[B] bool: the environments in which the link lost it."""
    dead: Lanes = False
    """Environments whose episode ended since it was sent: there it is void from then on."""
    silent: Lanes = False
    """Environments whose episode ended before it could be used: there nothing is injected either."""
    counted: Lanes = False
    """Environments in which a use counted."""
    delta: Tensor | None = None
    """[B, size], per sample, accumulated over the counted uses."""
    finished: int | None = None
    """Step at which its last window closed."""
    pinned: bool = True
    """Whether the sender has still to learn from it."""
    live: Tensor | None = None
    """The message with the sender's graph, while the sender's window is open."""
    prediction: tuple[Tensor, int] | None = None
    """What its predictor said of it, and after how many updates."""

    @property
    def unread(self) -> bool:
        """Whether the schedule shows that a newer message replaces it before any tick."""
        return self.first_use is None

    @property
    def complete(self) -> bool:
        """Whether its delta is whole: all windows closed, at least one use counted."""
        return self.finished is not None and self.counted is not False


@dataclass(slots=True, eq=False)
class Use:
    """A record consumed within one receiver window: the leaf its gradient comes back on."""

    record: Record
    leaf: Tensor
    counted: Lanes


@dataclass(slots=True)
class Reading:
    """What a receiver tick finds on a channel."""

    record: Record | None
    """The record due, if any was sent."""
    value: Tensor | None
    """[B, size]; None: nothing has come, zeros."""
    came: Lanes
    """Environments in which there is a message; zeros elsewhere."""
    counted: Lanes
    """Environments in which it is the due message itself, and valid."""


@dataclass
class Ledger:
    """The records of one channel.

    Attributes:
        name: The channel's name.
        sender: The sender's clock.
        receiver: The receiver's clock.
        windows: The receiving unit's windows.
        link: Delay and losses.
        returns: Whether deltas are wanted; where not, uses are only counted.
        slack: Steps that a record may stay open beyond its last window (a late receiver's staleness).
    """

    name: str
    sender: Clock
    receiver: Clock
    windows: Windows
    link: Link
    returns: bool
    slack: int = 0
    records: dict[int, Record] = field(default_factory=dict)
    uses: dict[int, dict[tuple[int, int], Use]] = field(default_factory=dict)
    """Per open receiver window: uses by (stamp, tick step; -1 where every use shares one leaf)."""
    returned: dict[int, list[Record]] = field(default_factory=dict)
    """Complete records by the step at which their delta reaches the sender."""
    newest: Tensor | None = None
    """[B, size]: the newest delta that has come back, zeros where that episode has ended."""
    held: Tensor | None = None
    """[B, size], on a link that loses: the newest message that arrived."""
    held_stamp: Tensor | None = None
    """[B], its stamp; -1: none."""
    arrived: int = -1
    """Newest stamp already taken into `held`."""

    def send(self, step: int, message: Tensor, moment: Moment) -> Record:
        """Enter a message made at `step` and return its record."""
        first, last = self._scheduled(step)
        waiting: set[int] = set()
        deadline = step
        if first is not None:
            ticks = range(first, last + 1, self.receiver.period)
            waiting = {self.windows.number(tick) for tick in ticks}  # a window without a tick never closes
            deadline = self.windows.end(max(waiting)) + self.slack
        record = Record(step, value_of(message), moment, first, waiting, deadline, live=message)
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
        stop = start + self.sender.period
        first = self.receiver.following(start)
        if first >= stop:
            return None, stamp
        last = self.receiver.latest(stop - 1)
        assert last is not None
        return first, last

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
        self.newest = lanes_where(besides(record.dead), newest)

    def _forget(self, step: int) -> None:
        """Drop records that nobody can ask for any more, and check that none has been left open."""
        newest = self.sender.latest(step - self.link.delay)
        for stamp, record in list(self.records.items()):
            if record.finished is None:
                if record.deadline < step:
                    raise EngineError(f"{self.name}: the record of step {stamp} is still open at step {step}")
            elif not record.pinned and newest is not None and stamp < newest:
                if self.link.drop and stamp > self.arrived:
                    continue
                if record.finished + self.link.delay < step or not record.complete:
                    del self.records[stamp]

    def receive(self, step: int) -> Reading:
        """Return what the receiver's tick at `step` finds (semantics 18)."""
        stamp = self.sender.latest(step - self.link.delay)
        record = None if stamp is None else self.records.get(stamp)
        if record is None or stamp is None:
            return Reading(None, None, False, False)
        if record.lost is not None:
            return self._receive_lossy(record)
        if record.dead is False:
            return Reading(record, record.message, True, True)
        if record.dead is True:
            return Reading(record, None, False, False)
        alive = besides(record.dead)
        return Reading(record, lanes_where(alive, record.message), alive, alive)

    def _receive_lossy(self, due: Record) -> Reading:
        if self.held is None or self.held_stamp is None:
            self.held = torch.zeros_like(due.message)
            self.held_stamp = torch.full((due.message.shape[0],), -1, device=due.message.device)
        for stamp, record in self.records.items():
            if self.arrived < stamp <= due.stamp and record.dead is not True:
                assert record.lost is not None
                missing = either(record.lost, record.dead)
                assert isinstance(missing, Tensor)
                self.held = torch.where(missing.unsqueeze(1), self.held, record.message)
                self.held_stamp = torch.where(missing, self.held_stamp, stamp)
        self.arrived = max(self.arrived, due.stamp)
        came = self.held_stamp >= 0
        return Reading(due, lanes_where(came, self.held), came, self.held_stamp == due.stamp)

    def use(self, step: int, reading: Reading) -> Use | None:
        """Book that the tick at `step` consumed `reading`, and return the leaf it may differentiate."""
        if reading.record is None or reading.value is None or reading.counted is False:
            return None
        window = self.uses.setdefault(self.windows.number(step), {})
        shared = reading.counted is True
        key = (reading.record.stamp, -1 if shared else step)
        if key not in window:
            leaf = as_leaf(reading.value) if self.returns else reading.value
            window[key] = Use(reading.record, leaf, reading.counted)
        return window[key]

    def book(self, use: Use, delta: Tensor | None) -> None:
        """Add a counted use's delta, [B, size] per sample (None: the loss does not depend on it)."""
        record = use.record
        record.counted = either(record.counted, use.counted)
        if delta is not None:
            delta = lanes_where(use.counted, delta)
            record.delta = delta if record.delta is None else record.delta + delta

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
            self.returned.setdefault(step + self.link.delay, []).append(record)

    def take(self, step: int) -> list[Record]:
        """Return the records whose delta reaches the sender at `step`, once."""
        for record in self.returned.get(step, []):
            self._remember(record)
        return self.returned.pop(step, [])

    def cut(self, step: int, ended: Lanes) -> None:
        """Void what is held or in flight in the environments whose episode ended at `step` (semantics 20)."""
        for record in self.records.values():
            record.dead = either(record.dead, ended)
            if record.first_use is not None and record.first_use > step:
                record.silent = either(record.silent, ended)
        if self.newest is not None:
            self.newest = lanes_where(besides(ended), self.newest)
        if self.held_stamp is not None:
            self.held_stamp = torch.where(
                lanes_where(ended, torch.ones_like(self.held_stamp)) > 0, -1, self.held_stamp
            )
