"""Clocks and windows: when an agent ticks, and which of its ticks learn together (semantics 13, 14, 16)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

__all__ = ["Clock", "StepWindows", "TickWindows", "Windows"]


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


@final
@dataclass(frozen=True, slots=True)
class TickWindows(Windows):
    """Windows of `unroll` ticks of one clock: those of an agent that learns alone."""

    clock: Clock
    unroll: int = 1

    def number(self, tick: int) -> int:
        return self.clock.count(tick) // self.unroll

    def end(self, number: int) -> int:
        return self.clock.step((number + 1) * self.unroll - 1)

    def ending(self, step: int) -> int | None:
        if not self.clock.due(step):
            return None
        count = self.clock.count(step) + 1
        return count // self.unroll - 1 if count % self.unroll == 0 else None


@final
@dataclass(frozen=True, slots=True)
class StepWindows(Windows):
    """Windows of `length` steps: those of a locked group, or of an episode."""

    length: int

    def number(self, tick: int) -> int:
        return tick // self.length

    def end(self, number: int) -> int:
        return (number + 1) * self.length - 1

    def ending(self, step: int) -> int | None:
        return step // self.length if (step + 1) % self.length == 0 else None
