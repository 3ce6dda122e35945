"""Clocks, windows, schedule: when agents tick, in which order, and which ticks learn together (semantics 13, 14, 16)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final

__all__ = [
    "Call",
    "Clock",
    "EpisodeWindows",
    "Schedule",
    "Sends",
    "StepWindows",
    "TickWindows",
    "Windows",
    "uses_of",
]


@dataclass(frozen=True, slots=True)
class Clock:
    """Ticks at steps t with (t - phase) % period == 0, t >= phase.

    Attributes:
        period: Steps between ticks.
        phase: First tick, in [0, period); a negative one counts from the period's end.
    """

    period: int = 1
    phase: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "phase", self.phase % self.period)

    def due(self, step: int) -> bool:
        """Whether the clock ticks at `step`."""
        return step % self.period == self.phase

    def count(self, step: int) -> int:
        """Number of the tick at `step`, from 0."""
        return (step - self.phase) // self.period

    def step(self, count: int) -> int:
        """Step of tick number `count`."""
        return self.phase + count * self.period

    def latest(self, step: int) -> int | None:
        """The newest tick at or before `step`, if there was one."""
        return None if step < self.phase else step - (step - self.phase) % self.period

    def following(self, step: int) -> int:
        """The first tick at or after `step`."""
        return self.phase if step <= self.phase else step + (self.phase - step) % self.period


@final
class Sends:
    """When a sender sends: on a share of its ticks, evenly spaced; message k goes at its tick floor(k / rate).

    Args:
        clock: The sender's.
        rate: The share, in (0, 1], as the decimal it is written as: 0.1 is a tenth, so no rounding adds up.

    Attributes:
        due: Whether a message is sent at a step; the clock's own where every tick sends, like the next.
        latest: The newest stamp sent at or before a step, if there was one.
    """

    due: Callable[[int], bool]
    latest: Callable[[int], int | None]

    def __init__(self, clock: Clock, rate: float = 1.0) -> None:
        self.clock = clock
        self.rate = rate
        self._every = 1 / Fraction(str(rate))
        self.due, self.latest = (clock.due, clock.latest) if rate == 1 else (self._due, self._latest)

    @property
    def repeats(self) -> int:
        """Steps after which it repeats."""
        return self.clock.period * self._every.numerator

    def after(self, step: int) -> int:
        """The first stamp sent after `step`."""
        tick = self.clock.following(step + 1)
        return tick if self.rate == 1 else self._stamp(self._before(self.clock.count(tick)))

    def _due(self, step: int) -> bool:
        return self._latest(step) == step

    def _latest(self, step: int) -> int | None:
        tick = self.clock.latest(step)
        return None if tick is None else self._stamp(self._before(self.clock.count(tick) + 1) - 1)

    def _before(self, count: int) -> int:
        """How many messages go at the ticks numbered below `count`: the least k with floor(k / rate) >= count."""
        return -(-count * self._every.denominator // self._every.numerator)

    def _stamp(self, message: int) -> int:
        return self.clock.step(message * self._every.numerator // self._every.denominator)


class Windows(ABC):
    """A division of an agent's ticks into windows, numbered from 0."""

    @abstractmethod
    def number(self, tick: int) -> int:
        """Number of the window that holds the tick at step `tick`."""

    @abstractmethod
    def end(self, number: int) -> int:
        """Step at which window `number` ends."""

    @abstractmethod
    def ending(self, step: int) -> int | None:
        """Number of the window that ends at `step`, if one does."""

    def steps(self) -> int:
        """Steps of a window; of episodes to come, of the longest."""
        return self.end(1) - self.end(0)

    @abstractmethod
    def ticks(self, clock: Clock) -> int:
        """Number of ticks of `clock` in a window, at most."""

    @abstractmethod
    def position(self, tick: int, clock: Clock, episode_start: int) -> int:
        """Position of the tick at step `tick` among those of its window, from 0.

        Args:
            tick: The step.
            clock: That of the agent that ticks.
            episode_start: Step at which the tick's episode, or the one before, began.
        """


@final
@dataclass(frozen=True, slots=True)
class TickWindows(Windows):
    """Windows of `unroll` ticks of one clock: those of an agent that learns alone."""

    clock: Clock
    unroll: int = 1

    def number(self, tick: int) -> int:
        return (tick - self.clock.phase) // (self.clock.period * self.unroll)

    def end(self, number: int) -> int:
        return self.clock.step((number + 1) * self.unroll - 1)

    def ending(self, step: int) -> int | None:
        if not self.clock.due(step):
            return None
        count = self.clock.count(step) + 1
        return count // self.unroll - 1 if count % self.unroll == 0 else None

    def ticks(self, clock: Clock) -> int:
        return self.unroll

    def position(self, tick: int, clock: Clock, episode_start: int) -> int:
        return clock.count(tick) % self.unroll


@final
@dataclass(frozen=True, slots=True)
class StepWindows(Windows):
    """Windows of `length` steps, the first from `start` on: those of a locked group, or of an episode."""

    length: int
    start: int = 0

    def number(self, tick: int) -> int:
        return (tick - self.start) // self.length

    def end(self, number: int) -> int:
        return self.start + (number + 1) * self.length - 1

    def ending(self, step: int) -> int | None:
        number = self.number(step)
        return number if self.end(number) == step else None

    def ticks(self, clock: Clock) -> int:
        return -(-self.length // clock.period)

    def position(self, tick: int, clock: Clock, episode_start: int) -> int:
        return (tick - self.start) % self.length // clock.period


@final
class EpisodeWindows(Windows):
    """Windows that are the episodes of an environment whose length is known when each begins, and only then.

    Of episodes to come it is known that they come: all of them are the next one, until it begins.

    Args:
        longest: Steps that an episode has at most.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.current = self.start = 0
        self.length = longest

    def begin(self, step: int, length: int, number: int) -> None:
        """Note that episode `number`, of `length` steps, begins at `step`."""
        self.start, self.length, self.current = step, length, number

    def number(self, tick: int) -> int:
        if tick < self.start:
            return self.current - 1
        return self.current if tick < self.start + self.length else self.current + 1

    def end(self, number: int) -> int:
        return self.start + self.length - 1 + (number - self.current) * self.longest

    def ending(self, step: int) -> int | None:
        return self.current if step == self.start + self.length - 1 else None

    def ticks(self, clock: Clock) -> int:
        return -(-self.longest // clock.period)

    def position(self, tick: int, clock: Clock, episode_start: int) -> int:
        return (tick - episode_start) // clock.period % self.ticks(clock)


def uses_of(
    stamp: int, sender: Sends, receiver: Clock, windows: Windows, delay: int, *, read: str, state: bool
) -> tuple[int | None, set[int], int]:
    """Which ticks a perfect link lets use a message.

    Args:
        stamp: When it was sent.
        sender: When its sender sends.
        receiver: Its receiver's clock.
        windows: The receiver's.
        delay: Steps on the way.
        read: What a tick that several messages reach does with them.
        state: Whether it is a state that an agent hands to its own next tick.

    Returns:
        The first tick, the windows of all, and the step at which the last of these ends; None, none and `stamp` where a
        newer message replaces it unread.
    """
    first = receiver.following(stamp + delay)
    if state and windows.number(first) == windows.number(stamp):
        return None, set(), stamp  # within a window a state is passed on with its graph
    stop = sender.after(stamp) + delay
    if first >= stop:
        if read == "last":
            return None, set(), stamp
        stop = first + 1
    waiting = {windows.number(tick) for tick in range(first, stop, receiver.period)}
    return first, waiting, windows.end(max(waiting))  # a window without a tick never closes


Call = tuple[str, ...]
"""The agents evaluated as one batch: one, or several tied ones of the same wave."""
_CACHED = 256


class Schedule:
    """The calls of any step, found without enumerating a hyperperiod.

    Args:
        clocks: By agent.
        waves: Calls by topological level over zero-delay channels.
    """

    def __init__(self, clocks: Mapping[str, Clock], waves: Sequence[Sequence[Call]]) -> None:
        self._clocks = clocks
        self._kinds = tuple(dict.fromkeys(clocks.values()))
        self.waves = waves
        self._calls = [call for wave in waves for call in wave]
        self._cache: dict[tuple[bool, ...], list[Call]] = {}

    def calls(self, step: int) -> list[Call]:
        """Return the calls due at `step`, in an order in which every sender of a zero-delay channel comes first."""
        pattern = tuple(clock.due(step) for clock in self._kinds)
        if pattern not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[pattern] = [call for call in self._calls if self._clocks[call[0]].due(step)]
        return self._cache[pattern]

    def ticks(self, step: int) -> list[str]:
        """Return the agents due at `step`, in the same order."""
        return [name for call in self.calls(step) for name in call]
