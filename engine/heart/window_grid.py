"""Divisions of an agent's ticks into windows, by steps or by episodes (rule 14, clocks and windows)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from antiphon.engine.heart.clock import Clock


class WindowGrid(ABC):
    """The division of an agent's ticks into numbered windows; `Window` (window.py) is one window with what was computed in it."""

    __slots__ = ()

    @abstractmethod
    def number_at(self, step: int) -> int:
        """Return the number of the window that holds a tick at `step`."""

    @abstractmethod
    def end_of(self, number: int) -> int:
        """Return the step at which window `number` ends, the present one or one to come; where that is not known yet, the latest possible."""

    @abstractmethod
    def number_ending_at(self, step: int) -> int | None:
        """Return the number of the window that ends at `step`, if one does."""

    @property
    def cycle_steps(self) -> int | None:
        """Steps after which the division repeats, as those of `SendTimes` do; None: it never does, or that is not known."""
        return None

    def with_known_lengths(self) -> WindowGrid:
        """Return a grid that can be asked about any step: where lengths are not known yet or no more, with those of the present window."""
        return self

    def spans(self, steps: range) -> list[tuple[int, int]]:
        """Return, for the window that holds each of some steps, the step after the end of the window before, and that of its own end."""
        numbers = map(self.number_at, steps)
        return [(self.end_of(number - 1) + 1, self.end_of(number)) for number in numbers]

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
            episode_start: Step at which the tick's episode, or the one before, began.
        """


@dataclass(frozen=True, slots=True)
class StepWindows(WindowGrid):
    """Windows of `length` steps, numbered from 0: those of an agent that learns alone, of an episode, or of a locked group, all of whose
    agents' windows divide it.

    Attributes:
        length: Steps of a window.
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

    @property
    def cycle_steps(self) -> int:
        return self.length

    def max_steps(self) -> int:
        return self.length

    def max_ticks(self, period: int) -> int:
        return -(-self.length // period)

    def position(self, step: int, period: int, episode_start: int) -> int:
        return (step - self.first_step) % self.length // period


class EpisodeWindows(WindowGrid):
    """Windows that are the episodes of an environment whose length is known when each begins, and only then.

    All ticks beyond the present episode are taken for those of the next one, until that begins.

    Args:
        max_length: Steps that an episode has at most.

    Attributes:
        length: Its steps; before the first one has begun, `max_length`.
    """

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.episode_number = self.episode_start = 0
        self.length = max_length

    def begin_episode(self, step: int, length: int, number: int) -> None:
        """Begin episode `number`, of `length` steps, at `step`."""
        self.episode_start, self.length, self.episode_number = step, length, number

    def number_at(self, step: int) -> int:
        """Return the number of the episode that holds a tick at `step`."""
        if step < self.episode_start:
            return self.episode_number - 1
        return self.episode_number if step < self.episode_start + self.length else self.episode_number + 1

    def end_of(self, number: int) -> int:
        """Return the step at which episode `number` ends: of the present one; of one to come, the latest possible."""
        assert number >= self.episode_number, "how long past episodes were is not kept"
        return self.episode_start + self.length - 1 + (number - self.episode_number) * self.max_length

    def number_ending_at(self, step: int) -> int | None:
        return self.episode_number if step == self.episode_start + self.length - 1 else None

    def with_known_lengths(self) -> StepWindows:
        """Return windows of steps, which are all as long as the present episode."""
        return StepWindows(self.length, self.episode_start)

    def max_steps(self) -> int:
        return self.max_length

    def max_ticks(self, period: int) -> int:
        return -(-self.max_length // period)

    def position(self, step: int, period: int, episode_start: int) -> int:
        """Return the position of a tick in its episode, from 0.

        Where `episode_start` is that of the episode before, positions begin again at 0 after the longest episode: so each is one of
        `max_ticks`.
        """
        return (step - episode_start) // period % self.max_ticks(period)
