"""What the driver knows of its parts: how far each is, how often it died, and whether any goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from antiphon.engine.ray.worker import Progress
from antiphon.errors import RunError
from antiphon.telemetry.parts.part_figures import PartFigures

__all__ = ["PartRecord", "Watch"]

_LOOK = 5.0
"""Seconds between two looks at all parts that are at work."""


class PartRecord:
    """One part over all its processes.

    Attributes:
        progress: The newest report of the present process.
        restarts: Processes that have followed the first one.
        deaths: Calls that failed since its newest checkpoint, for its process was not there.
        is_dead: Whether the newest call did.
    """

    def __init__(self) -> None:
        self.progress = Progress()
        self.restarts = self.deaths = 0
        self.is_dead = False
        self._before = Progress()
        """Totals of former processes."""
        self._dead_since = self._answered_at = time.monotonic()

    def note(self, progress: Progress) -> None:
        """Take a report."""
        last = self.progress
        if last.process and (last.machine, last.process) != (progress.machine, progress.process):
            self.restarts = max(self.restarts + 1, progress.starts)
            self._before = replace(
                last,
                computing=self._before.computing + last.computing,
                waiting=_sum(self._before.waiting, last.waiting),
                bytes_sent=self._before.bytes_sent + last.bytes_sent,
                bytes_received=self._before.bytes_received + last.bytes_received,
                calls=self._before.calls + last.calls,
            )
        if progress.durable > last.durable:
            self.deaths = 0
        self.progress, self._answered_at, self.is_dead = progress, time.monotonic(), False

    def note_death(self) -> None:
        """Count a call that found no process."""
        if not self.deaths:
            self._dead_since = time.monotonic()
        self.deaths, self.is_dead = self.deaths + 1, True

    @property
    def seconds_dead(self) -> float:
        """Seconds since the first of `deaths`."""
        return time.monotonic() - self._dead_since

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the newest report."""
        return time.monotonic() - self._answered_at

    def figures(self, index: int, seconds: float) -> PartFigures:
        """Return the figures of a part over all its processes, `seconds` after it began."""
        now, before = self.progress, self._before
        return PartFigures(
            part=index,
            machine=now.machine,
            steps_taken=now.now,
            seconds=seconds,
            computing=before.computing + now.computing,
            waiting=_sum(before.waiting, now.waiting),
            bytes_sent=before.bytes_sent + now.bytes_sent,
            bytes_received=before.bytes_received + now.bytes_received,
            calls=before.calls + now.calls,
            staleness=now.behind,
            blocked_on=() if self.is_dead else now.waits_for,
            incarnation=self.restarts,
            alive=not self.is_dead,
            heartbeat_age=self.heartbeat_age,
        )


def _sum(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {part: one.get(part, 0.0) + other.get(part, 0.0) for part in sorted({*one, *other})}


class Watch:
    """A limit on the time in which no part takes a step.

    Args:
        limit: Seconds.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._looked_at = self._changed_at = time.monotonic()
        self._reached: list[int] = []

    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return time.monotonic() - self._looked_at > _LOOK

    def look(self, records: Sequence[PartRecord]) -> None:
        """Raise RunError where no part has taken a step for too long."""
        self._looked_at = time.monotonic()
        reached = [record.progress.now for record in records]
        if reached != self._reached:
            self._reached, self._changed_at = reached, self._looked_at
        elif self._looked_at - self._changed_at > self._limit:
            index = min(range(len(records)), key=reached.__getitem__)
            age = records[index].heartbeat_age
            raise RunError(
                f"ray: no part has taken a step for {self._limit:g} s; part {index} is at step {reached[index]}, "
                f"and answered {age:.0f} s ago"
            )
