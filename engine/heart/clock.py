"""Clocks, the order of ticks, and windows: when agents tick and send, and which ticks are a window (rule 14)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Regular ticks of an agent: at steps t with (t - phase) % tick_period == 0, t >= phase.

    A sender sends at each of its ticks: they are the stamps of its messages.

    Attributes:
        tick_period: Steps between ticks.
        phase: First tick, in [0, tick_period); a negative one is from its end.
    """

    tick_period: int = 1
    phase: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "phase", self.phase % self.tick_period)

    def ticks_at(self, step: int) -> bool:
        return step % self.tick_period == self.phase

    def latest(self, step: int) -> int | None:
        """The newest tick at or before `step`, if there was one."""
        return None if step < self.phase else step - (step - self.phase) % self.tick_period

    def at_or_after(self, step: int) -> int:
        """The first tick at or after `step`, which is 1 - `tick_period` or later."""
        return step + (self.phase - step) % self.tick_period

    def after(self, step: int) -> int:
        return step + self.tick_period - (step - self.phase) % self.tick_period

    def among(self, steps: range) -> range:
        return range(self.at_or_after(steps.start), steps.stop, self.tick_period)


# --- which ticks are a window ------------------------------------------------------------------------------


class WindowGrid(ABC):
    """The division of an agent's ticks into numbered windows; `Window` (window.py) has what was computed in one.

    Attributes:
        length: Steps of a window, or of the longest one.
    """

    __slots__ = ()

    length: int

    @abstractmethod
    def number_at(self, step: int) -> int:
        """Return the number of the window that holds a tick at `step`."""

    @abstractmethod
    def end_of(self, number: int) -> int:
        """Return the step at which window `number` ends, the present one or one to come; the latest possible where not
        known."""

    @abstractmethod
    def number_ending_at(self, step: int) -> int | None:
        """Return the number of the window that ends at `step`, if one does."""

    def with_known_lengths(self) -> WindowGrid:
        """Return a grid that can be asked about any step: unknown lengths are those of the present window."""
        return self

    def steps_of(self, number: int) -> range:
        """Return the steps of window `number`, the present one or one to come, after the end of the one before."""
        return range(self.end_of(number - 1) + 1, self.end_of(number) + 1)

    def max_ticks(self, period: int) -> int:
        """Return how many ticks, `period` steps apart, the longest window has."""
        return -(-self.length // period)

    @abstractmethod
    def position(self, step: int, period: int, episode_start: int) -> int:
        """Return the position of a tick among those of its window, from 0.

        Args:
            episode_start: Step at which the tick's episode, or the one before, began.
        """


@dataclass(frozen=True, slots=True)
class StepWindows(WindowGrid):
    """Windows of `length` steps, numbered from 0: those of an agent that learns alone, of an episode, or of a locked
    group, all of whose agents' windows divide it.

    Attributes:
        first_step: The first step of the first window.
        end_offset: At which of its steps a window ends, from 0; negative: from the length.
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

    def number_at(self, step: int) -> int:
        return (step - self.first_step) // self.length

    def end_of(self, number: int) -> int:
        return self.first_step + number * self.length + self.end_offset

    def number_ending_at(self, step: int) -> int | None:
        number, place = divmod(step - self.first_step, self.length)
        return number if place == self.end_offset else None

    def position(self, step: int, period: int, episode_start: int) -> int:
        return (step - self.first_step) % self.length // period


class EpisodeWindows(WindowGrid):
    """Windows that are the episodes of an environment whose length is known when each begins, and only then.

    Attributes:
        episode_length: Steps of the present episode; before the first one has begun, `length`.
    """

    def __init__(self, length: int) -> None:
        self.length = self.episode_length = length
        self.episode_number = self.episode_start = 0

    def begin_episode(self, step: int, length: int, number: int) -> None:
        self.episode_start, self.episode_length, self.episode_number = step, length, number

    def number_at(self, step: int) -> int:
        """Return the number of the episode that holds a tick at `step`; all beyond the present one are of the next."""
        if step < self.episode_start:
            return self.episode_number - 1
        return self.episode_number + (step >= self.episode_start + self.episode_length)

    def end_of(self, number: int) -> int:
        assert number >= self.episode_number, "how long past episodes were is not kept"
        return self.episode_start + self.episode_length - 1 + (number - self.episode_number) * self.length

    def number_ending_at(self, step: int) -> int | None:
        return self.episode_number if step == self.end_of(self.episode_number) else None

    def steps_of(self, number: int) -> range:
        is_present = number == self.episode_number
        return range(self.episode_start, self.end_of(number) + 1) if is_present else super().steps_of(number)

    def with_known_lengths(self) -> StepWindows:
        return StepWindows(self.episode_length, self.episode_start)

    def position(self, step: int, period: int, episode_start: int) -> int:
        # where `episode_start` is that of the episode before, positions begin again at 0 after the longest episode
        return (step - episode_start) // period % self.max_ticks(period)


# --- the order in which agents tick ------------------------------------------------------------------------

NetworkCall = tuple[str, ...]
"""The names of the agents of one call of a network: one, or several tied ones of the same wave, whose rows are
evaluated together."""


@dataclass(eq=False)
class TickSchedule:
    """The network calls of any step, in order, and the present episode, where that is a window.

    Attributes:
        waves: The network calls, by topological level over zero-delay channels.
        episode_windows: The windows of agents that learn once an episode, where its length varies; None: there are
            none.
    """

    clocks: Mapping[str, Clock]
    waves: Sequence[Sequence[NetworkCall]]
    episode_windows: EpisodeWindows | None = None

    @property
    def episode_start(self) -> int:
        """The step at which the present episode began, if it is a window."""
        return 0 if self.episode_windows is None else self.episode_windows.episode_start

    def begin_episode(self, step: int, length: int | None) -> None:
        """Begin an episode of `length` steps at `step`, for agents that learn once an episode; None: all have one
        length."""
        if (windows := self.episode_windows) is not None and length is not None:
            windows.begin_episode(step, length, windows.episode_number + 1 if step else 0)

    def network_calls(self, step: int) -> list[NetworkCall]:
        """Return the network calls of `step`, in an order in which every sender of a zero-delay channel comes first."""
        return [call for wave in self.waves for call in wave if self.clocks[call[0]].ticks_at(step)]
