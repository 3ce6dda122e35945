"""Schedules, made lazily: who ticks in which wave, and whose window ends (semantics 13, 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from antiphon.engine.core.clock import Clock
from antiphon.engine.core.group import LearningGroup

__all__ = ["Call", "Schedule"]

Call = tuple[str, ...]
"""The agents evaluated as one batch: one, or several tied ones of the same wave."""
_CACHED = 256


class Schedule:
    """Answers for any step without enumerating a hyperperiod.

    Args:
        clocks: By agent.
        waves: Calls by topological level over zero-delay channels.
        units: What learns together.
    """

    def __init__(
        self, clocks: Mapping[str, Clock], waves: Sequence[Sequence[Call]], units: Sequence[LearningGroup]
    ) -> None:
        self._clocks = clocks
        self._kinds = tuple(dict.fromkeys(clocks.values()))
        self.waves = waves
        self._calls = [call for wave in waves for call in wave]
        self._units = units
        self._cache: dict[tuple[bool, ...], list[Call]] = {}

    def calls(self, step: int) -> list[Call]:
        """Return the calls due at `step`, in an order in which every sender of a zero-delay channel comes first."""
        pattern = tuple(clock.due(step) for clock in self._kinds)
        if pattern not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[pattern] = [call for call in self._calls if self._clocks[call[0]].due(step)]
        return self._cache[pattern]

    def ending(self, step: int) -> list[tuple[LearningGroup, int]]:
        """Return the units whose window ends at `step`, with the window's number."""
        found = []
        for unit in self._units:
            window = unit.windows.ending(step)
            if window is not None:
                found.append((unit, window))
        return found
