"""Clocks, windows, schedule: when agents tick, in which order, and which ticks learn together (rule 14, clocks and windows)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Protocol

from antiphon.comms.read_modes import READ_LAST, ReadMode
from antiphon.engine.heart.roles import PLAIN


@dataclass(frozen=True, slots=True)
class Clock:
    """Regular ticks of an agent: at steps t with (t - phase) % tick_period == 0, t >= phase.

    Its ticks are `tick_period` steps apart, and much computes with that: windows (`StepWindows`, `EpisodeWindows`), `Timetable`,
    order.py, the ages of credited messages (learn.py), and the checks of scenarios (scenarios/relations.py). Irregular ticks would need
    another kind of windows too; a rule that only says when messages are sent is one more class of `SendTimes`.

    Attributes:
        tick_period: Steps between ticks.
        phase: First tick, in [0, tick_period); a negative one counts from its end.
    """

    tick_period: int = 1
    phase: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "phase", self.phase % self.tick_period)

    @property
    def repeats(self) -> int:
        """Steps after which its ticks repeat."""
        return self.tick_period

    @property
    def mean_send_interval(self) -> float:
        """Steps from one tick to the next."""
        return self.tick_period

    def due(self, step: int) -> bool:
        """Whether the clock ticks at `step`."""
        return step % self.tick_period == self.phase

    def tick_number(self, step: int) -> int:
        """Number of the tick at `step`, from 0."""
        return (step - self.phase) // self.tick_period

    def step_of(self, number: int) -> int:
        """Step of the tick of a number."""
        return self.phase + number * self.tick_period

    def latest(self, step: int) -> int | None:
        """The newest tick at or before `step`, if there was one."""
        return None if step < self.phase else step - (step - self.phase) % self.tick_period

    def at_or_after(self, step: int) -> int:
        """The first tick at or after `step`."""
        return self.phase if step <= self.phase else step + (self.phase - step) % self.tick_period

    def after(self, step: int) -> int:
        """The first tick after `step`."""
        return self.at_or_after(step + 1)

    def among(self, steps: range) -> range:
        """The ticks among consecutive steps."""
        return range(self.at_or_after(steps.start), steps.stop, self.tick_period)


class SendTimes(Protocol):
    """When a sender sends: at each of its ticks (`Clock`), or less often (`RatedSends`). These steps are the stamps of its messages."""

    @property
    def tick_period(self) -> int:
        """Steps between ticks of the sender."""

    @property
    def repeats(self) -> int:
        """Steps after which its stamps repeat."""

    @property
    def mean_send_interval(self) -> float:
        """Steps from one message to the next, on average."""

    def due(self, step: int) -> bool:
        """Whether a message is sent at `step`."""

    def latest(self, step: int) -> int | None:
        """The newest stamp at or before `step`, if there was one."""

    def after(self, step: int) -> int:
        """The first stamp after `step`."""

    def among(self, steps: range) -> Sequence[int]:
        """The stamps among consecutive steps."""


@dataclass(frozen=True)
class RatedSends:
    """The `SendTimes` of a sender with a message rate, evenly spaced: message k goes at its tick floor(k / rate).

    Attributes:
        clock: When the sender ticks.
        rate: The share of its ticks, in (0, 1], as the decimal it is written as: 0.1 is a tenth, so no rounding adds up.
    """

    clock: Clock
    rate: float

    @property
    def tick_period(self) -> int:
        """Steps between ticks of the sender."""
        return self.clock.tick_period

    @property
    def repeats(self) -> int:
        """Steps after which its stamps repeat."""
        return self.tick_period * self.ticks_per_message.numerator

    @property
    def mean_send_interval(self) -> float:
        """Steps from one message to the next, on average."""
        return self.tick_period / self.rate

    @cached_property
    def ticks_per_message(self) -> Fraction:
        """Ticks from one message to the next, on average."""
        return 1 / Fraction(str(self.rate))

    def due(self, step: int) -> bool:
        """Whether a message is sent at `step`."""
        return self.latest(step) == step

    def latest(self, step: int) -> int | None:
        """The newest stamp sent at or before `step`, if there was one."""
        tick = self.clock.latest(step)
        return None if tick is None else self._stamp(self._before(self.clock.tick_number(tick) + 1) - 1)

    def after(self, step: int) -> int:
        """The first stamp sent after `step`."""
        return self._stamp(self._before(self.clock.tick_number(self.clock.after(step))))

    def among(self, steps: range) -> list[int]:
        """The stamps sent at consecutive steps."""
        return [step for step in steps if self.due(step)]

    def _before(self, count: int) -> int:
        """How many messages go at the ticks numbered below `count`: the least k with floor(k / rate) >= count."""
        ticks = self.ticks_per_message
        return -(-count * ticks.denominator // ticks.numerator)

    def _stamp(self, message: int) -> int:
        ticks = self.ticks_per_message
        return self.clock.step_of(message * ticks.numerator // ticks.denominator)


class WindowGrid(ABC):
    """The division of an agent's ticks into numbered windows; `Window` (window.py) is one window with what was computed in it."""

    __slots__ = ()

    @abstractmethod
    def number(self, step: int) -> int:
        """Return the number of the window that holds a tick at `step`."""

    @abstractmethod
    def end(self, number: int) -> int:
        """Return the step at which window `number` ends, the present one or one to come; at the latest, where that is not known."""

    @abstractmethod
    def ending(self, step: int) -> int | None:
        """Return the number of the window that ends at `step`, if one does."""

    @abstractmethod
    def max_steps(self) -> int:
        """Return the steps of a window, at most."""

    @abstractmethod
    def max_ticks(self, period: int) -> int:
        """Return how many ticks, `period` steps apart, a window has, at most."""

    @abstractmethod
    def position(self, step: int, period: int, episode_start: int) -> int:
        """Return the position of a tick among those of its window, from 0.

        Args:
            step: The step of the tick.
            period: Period of the agent that ticks.
            episode_start: Step at which the tick's episode, or the one before, began.
        """


@dataclass(frozen=True, slots=True)
class StepWindows(WindowGrid):
    """Windows of `length` steps, numbered from 0: those of an agent that learns alone, of a locked group, of an episode.

    Attributes:
        length: Steps of a window.
        first_step: The first step of the first window.
        end_offset: At which of its steps a window ends, from 0; negative: counted from the length.
    """

    length: int
    first_step: int = 0
    end_offset: int = -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "end_offset", self.end_offset % self.length)

    @classmethod
    def of_ticks(cls, clock: Clock, unroll: int = 1) -> StepWindows:
        """Return windows of `unroll` ticks of a clock, each of which ends with its last tick."""
        return cls(clock.tick_period * unroll, clock.phase, clock.tick_period * (unroll - 1))

    def number(self, step: int) -> int:
        """Return the number of the window that holds a tick at `step`."""
        return (step - self.first_step) // self.length

    def end(self, number: int) -> int:
        """Return the step at which window `number` ends."""
        return self.first_step + number * self.length + self.end_offset

    def ending(self, step: int) -> int | None:
        """Return the number of the window that ends at `step`, if one does."""
        number, place = divmod(step - self.first_step, self.length)
        return number if place == self.end_offset else None

    def bounds(self, steps: range) -> list[tuple[int, int]]:
        """Return the first step of the window that holds each of some steps, and the step at which that window ends."""
        firsts = [step - (step - self.first_step) % self.length for step in steps]
        return [(first, first + self.end_offset) for first in firsts]

    def max_steps(self) -> int:
        """Return the steps of a window."""
        return self.length

    def max_ticks(self, period: int) -> int:
        """Return how many ticks, `period` steps apart, a window has, at most."""
        return -(-self.length // period)

    def position(self, step: int, period: int, episode_start: int) -> int:
        """Return the position of a tick among those of its window, from 0."""
        return (step - self.first_step) % self.length // period


class EpisodeWindows(WindowGrid):
    """Windows that are the episodes of an environment whose length is known when each begins, and only then.

    All ticks beyond the present episode count as those of the next one, until that begins.

    Args:
        longest: Steps that an episode has at most.

    Attributes:
        episode_number: The number of the present episode.
        episode_start: The step at which it began.
        length: Its steps; before the first one has begun, `longest`.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.episode_number = self.episode_start = 0
        self.length = longest

    def begin(self, step: int, length: int, number: int) -> None:
        """Begin episode `number`, of `length` steps, at `step`."""
        self.episode_start, self.length, self.episode_number = step, length, number

    def number(self, step: int) -> int:
        """Return the number of the episode that holds a tick at `step`."""
        if step < self.episode_start:
            return self.episode_number - 1
        return self.episode_number if step < self.episode_start + self.length else self.episode_number + 1

    def end(self, number: int) -> int:
        """Return the step at which episode `number` ends, the present one or one to come; of one to come, at the latest."""
        assert number >= self.episode_number, "how long past episodes were is not kept"
        return self.episode_start + self.length - 1 + (number - self.episode_number) * self.longest

    def ending(self, step: int) -> int | None:
        """Return the number of the episode that ends at `step`, if one does."""
        return self.episode_number if step == self.episode_start + self.length - 1 else None

    def max_steps(self) -> int:
        """Return the steps of an episode, at most."""
        return self.longest

    def max_ticks(self, period: int) -> int:
        """Return how many ticks, `period` steps apart, an episode has, at most."""
        return -(-self.longest // period)

    def position(self, step: int, period: int, episode_start: int) -> int:
        """Return the position of a tick in its episode, from 0.

        A tick of the next episode may be counted from the start of this one: so that it has a place among those of an episode,
        the count starts again after the longest.
        """
        return (step - episode_start) // period % self.max_ticks(period)


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


NetworkCall = tuple[str, ...]
"""The agents of one call of a network: one agent, or several tied ones of the same wave, whose rows are evaluated together."""


@dataclass(eq=False)
class Schedule:
    """The network calls of any step, in order, and the present episode, where that is a window.

    Attributes:
        clocks: The clocks, by agent.
        waves: The network calls, by topological level over zero-delay channels.
        episode: The windows of agents that learn once an episode, where its length varies; None: there are none.
        sweep: Whether a group is differentiated as soon as it has ticked, where its learning signal is complete then.
    """

    clocks: Mapping[str, Clock]
    waves: Sequence[Sequence[NetworkCall]]
    episode: EpisodeWindows | None = None
    sweep: bool = False

    @cached_property
    def _in_order(self) -> list[NetworkCall]:
        return [call for wave in self.waves for call in wave]

    @property
    def episode_start(self) -> int:
        """The step at which the present episode began, if it is a window."""
        return 0 if self.episode is None else self.episode.episode_start

    def next_episode(self, step: int, length: int | None) -> None:
        """Begin an episode of `length` steps at `step`, for agents that learn once an episode; None: all are of one length."""
        if self.episode is not None and length is not None:
            self.episode.begin(step, length, 0 if step == 0 else self.episode.episode_number + 1)

    def network_calls(self, step: int) -> list[NetworkCall]:
        """Return the network calls due at `step`, in an order in which every sender of a zero-delay channel comes first."""
        return [call for call in self._in_order if self.clocks[call[0]].due(step)]

    def agents(self, step: int) -> list[str]:
        """Return the agents due at `step`, in the same order."""
        return [name for call in self.network_calls(step) for name in call]
