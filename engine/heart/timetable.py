"""Timetables of channels: which ticks and windows read a message, and when its gradient is back (rule 17)."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from antiphon.engine.heart.clock import Clock, WindowGrid


@dataclass(frozen=True, slots=True, eq=False)
class ReadPlan:
    """When a message is read, and in which windows of its receiver; `Timetable.read_plan` makes it as it is sent.

    A plan does not ask for the coupling, which a fork or a probe may exchange while the message is on its way: a locked
    channel has bookable messages too, though none of their reads counts.
    """

    first_tick: int | None = None
    """Step of the receiver's first tick that reads it; None: none does, or it is only imagined (rule 40a)."""
    window_numbers: AbstractSet[int] = frozenset()
    """Numbers of the receiver's windows whose reads may be booked."""
    ticks: range = range(0)
    """The receiver's ticks that read it, by `Timetable.reading_ticks`."""

    @property
    def is_bookable(self) -> bool:
        """Whether reads of it may be booked: their gradients go back to its sender, if the wire `returns_gradients`."""
        return bool(self.window_numbers)

    @property
    def stays_in_window(self) -> bool:
        """Whether it is a state that only the window that sent it reads, with its graph: nothing is booked for it."""
        return self.first_tick is not None and not self.window_numbers


@dataclass(frozen=True, slots=True)
class Timetable:
    """When the messages of a channel are sent and read, and their gradients return, over a perfect link.

    This follows from clocks and delays alone; where the receiver's windows are episodes (`EpisodeWindows`), from the
    length of the present one too.
    """

    sender_clock: Clock
    """When the sender sends: its stamps."""
    receiver_clock: Clock
    receiver_grid: WindowGrid
    """The division of the receiving group's ticks into windows."""
    delay: int = 0
    """Steps of a message on the way, as the scenario says: pages show it, and cuts refuse 0. What follows from it, and from
    `return_delay`, is asked of the methods."""
    return_delay: int = 0
    """Steps of a gradient on the way back: the second number of `link.delay`, or the only one."""
    slots: int = 1
    """The messages that a tick reads, at most: 1, the newest, or all that have arrived since the tick before, side by side."""
    carries_state: bool = False
    """Whether the messages are the states that a recurrent agent sends to its own next tick."""

    def arrival_of(self, stamp: int) -> int:
        """Return the step from which on ticks can read a stamp's message, if it is not lost."""
        return stamp + self.delay

    def crossed_by(self, step: int) -> int:
        """Return the newest step whose message, or state, is at the receiver at `step`: the inverse of `arrival_of`."""
        return step - self.delay

    def reading_ticks(self, stamp: int) -> range:
        """Return the receiver's ticks that read the message of a stamp: from its arrival until a newer one's.

        Where ticks read several messages, the first tick that it reaches reads it in any case.
        """
        first = self.receiver_clock.at_or_after(self.arrival_of(stamp))
        stop = self.arrival_of(self.sender_clock.after(stamp))
        if self.slots > 1:
            stop = max(stop, first + 1)
        return range(first, stop, self.receiver_clock.tick_period)

    def read_plan(self, stamp: int) -> ReadPlan:
        """Return when the message of a stamp is read; asked as it is sent: `EpisodeWindows` do not know windows that are over."""
        grid, ticks = self.receiver_grid, self.reading_ticks(stamp)
        if not ticks:
            return ReadPlan()
        if self.carries_state and grid.number_at(ticks[0]) == grid.number_at(stamp):
            return ReadPlan(ticks[0], ticks=ticks)
        return ReadPlan(ticks[0], frozenset(map(grid.number_at, ticks)), ticks)

    def newest_due(self, step: int) -> int | None:
        """Return the stamp of the newest message due at `step`, lost or not, None: none yet."""
        return self.sender_clock.latest(self.crossed_by(step))

    def stamps_read_at(self, step: int) -> list[int]:
        """Return the stamps that a tick of the receiver at `step` reads, oldest first; empty before the first is due."""
        stamps: list[int] = []
        stamp = self.newest_due(step)
        while stamp is not None and step in self.reading_ticks(stamp):
            stamps.insert(0, stamp)
            stamp = self.sender_clock.latest(stamp - 1)
        return stamps

    def reads_in_full(self, step: int) -> bool:
        """Return whether a tick of the receiver at `step` reads as many messages as any later one: none was due before step 0."""
        stamps = self.stamps_read_at(step)
        since = self.crossed_by(step - self.receiver_clock.tick_period)
        return bool(stamps) and (self.slots == 1 or stamps[0] - self.sender_clock.tick_period <= since)

    def is_cut_ahead(self, stamp: int, tick: int, episodes: WindowGrid | None) -> bool:
        """Return whether an end known ahead cuts a stamp's message off from a tick, for timelines and probes (rule 20).

        In a run `Wire.end_episodes` voids what was sent by then, as the episode ends; for `episodes` see `System`.
        """
        return episodes is not None and stamp <= episodes.end_of(episodes.number_at(stamp)) < tick

    @property
    def reads_as_sent(self) -> bool:
        """Whether every message is read as it is sent: it arrives then, and the receiver ticks at every stamp."""
        sender, receiver = self.sender_clock, self.receiver_clock
        ticks_then = receiver.ticks_at(sender.phase) and sender.tick_period % receiver.tick_period == 0
        return ticks_then and not self.delay

    def back_from(self, finished_at: int) -> int:
        """Return the step at which the gradient of a message that was finished at a step is back at its sender."""
        return finished_at + self.return_delay

    @property
    def lookahead(self) -> int:
        """Steps for which nothing that one end does has an effect at the other; that a message has been read has one."""
        return min(self.delay, max(1, self.return_delay))
