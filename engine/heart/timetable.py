"""Timetables of channels: which ticks and windows read a message, and when its gradient is back (rule 17, the ledger)."""

from __future__ import annotations

from dataclasses import dataclass, field

from antiphon.comms.read_modes import READ_LAST, ReadMode
from antiphon.engine.heart.clock import Clock, SendTimes
from antiphon.engine.heart.roles import PLAIN
from antiphon.engine.heart.window_grid import WindowGrid


@dataclass(slots=True, eq=False)
class ReadPlan:
    """When a message is read, in which windows of its receiver, and which of these have not closed yet.

    `Timetable.read_plan` computes it as the message is sent. Then `open_windows` shrinks as windows close, and `finished` is set with
    the last one.

    Nothing returns for three kinds of messages, of which only the first is never read:

    - those that a newer one replaces before a tick reads them;
    - states that only ticks of their own window read, with their graph;
    - those that are only imagined (`Ledger.temporarily_sent`).
    """

    first_tick: int | None = field(metadata=PLAIN)
    """Step of the receiver's first tick that may read it; None where nothing returns (`may_return`), as no other plan is needed there."""
    open_windows: set[int] = field(metadata=PLAIN)
    """Numbers of the receiver's windows that may read it and have not closed."""
    deadline: int = field(metadata=PLAIN)
    """Step at which the last window that may read it ends."""
    finished: int | None = field(default=None, metadata=PLAIN)
    """Step at which the last of these windows closed; where nothing returns, the step of its sending; None: one is open."""

    @classmethod
    def without_return(cls, stamp: int) -> ReadPlan:
        """Return the plan of a message of a stamp for which nothing returns: it is finished as it is sent."""
        return cls(first_tick=None, open_windows=set(), deadline=stamp, finished=stamp)

    @property
    def may_return(self) -> bool:
        """Whether a read of it may be booked; else it is one of the three kinds."""
        return self.first_tick is not None

    def mark_finished(self, step: int) -> None:
        """Set the step at which the last window closed: the message is finished."""
        self.finished = step


@dataclass(frozen=True, slots=True)
class Timetable:
    """When the messages of a channel are sent and read, and their gradients return, over a perfect link.

    This follows from clocks and delays alone; where the receiver's windows are episodes (`EpisodeWindows`), from the length of the
    present one too.
    """

    send_times: SendTimes
    """When the sender sends: its stamps."""
    receive_clock: Clock
    receiver_grid: WindowGrid
    """The division of the receiving group's ticks into windows."""
    delay: int = 0
    """Steps of a message on the way."""
    return_delay: int = 0
    """Steps of a gradient on the way back."""
    read_mode: ReadMode = READ_LAST
    """How a tick reads several messages that have arrived since the tick before."""
    carries_state: bool = False
    """Whether the messages are the states that a recurrent agent sends to its own next tick."""

    def reading_ticks(self, stamp: int) -> range:
        """Return the receiver's ticks that read the message of a stamp: all that it reaches before a newer message does.

        It is empty if a newer message replaces this one before a tick. That happens only where ticks read the newest message alone: where
        they read several (`read`), the first tick that it reaches reads it in any case, and `due_stamps` may take the last of the range.
        """
        first = self.receive_clock.at_or_after(stamp + self.delay)
        stop = self.send_times.after(stamp) + self.delay
        if not self.read_mode.newest_only:
            stop = max(stop, first + 1)
        return range(first, stop, self.receive_clock.tick_period)

    def read_plan(self, stamp: int) -> ReadPlan:
        """Return when the message of a stamp is read: known when it is sent."""
        grid, ticks = self.receiver_grid, self.reading_ticks(stamp)
        if not ticks or (self.carries_state and grid.number(ticks[0]) == grid.number(stamp)):
            return ReadPlan.without_return(stamp)
        windows = {grid.number(tick) for tick in ticks}
        return ReadPlan(ticks[0], windows, grid.end(max(windows)))

    def due_stamps(self, step: int) -> list[int]:
        """Return the stamps of the messages that a tick at `step` reads, oldest first: the inverse of `reading_ticks`.

        Of a step without a tick: of the messages that have come, those that a later tick may read.
        """
        newest = self.send_times.latest(step - self.delay)
        if newest is None:
            return []
        stamps = [newest]
        if not self.read_mode.newest_only:
            latest = self.send_times.latest
            while (older := latest(stamps[0] - 1)) is not None and self.reading_ticks(older)[-1] >= step:
                stamps.insert(0, older)
        return stamps

    def back_at(self, finished: int) -> int:
        """Return the step at which what receivers have returned is at the sender, for a message finished at a step."""
        return finished + self.return_delay

    def gradient_back_at(self, stamp: int) -> int | None:
        """Return the step at which the gradient of a message is back; None: nothing returns.

        The reads of a state within its own window do not count. Probes and the cost model call it, and no step does.
        """
        plan = self.read_plan(stamp)
        return self.back_at(plan.deadline) if plan.may_return else None
