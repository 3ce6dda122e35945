"""What the driver knows of its parts: how far each is, how often it died, and whether any goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from antiphon.engine.cluster.worker import Progress
from antiphon.errors import RunError

__all__ = ["PartRecord", "Watch"]

_LOOK = 5.0
"""Seconds between two looks at all parts that are at work."""


class PartRecord:
    """One part over all its processes.

    Attributes:
        progress: The newest report of the present process.
        restarts: Processes that have followed the first one.
        deaths: Calls that failed since its newest checkpoint, for its process was not there.
    """

    def __init__(self) -> None:
        self.progress = Progress()
        self.restarts = self.deaths = 0
        self._before = Progress()
        """Totals of former processes."""
        self._dead_since = self._heard_at = time.monotonic()

    def note(self, progress: Progress) -> None:
        """Take a report."""
        last = self.progress
        if last.process and (last.machine, last.process) != (progress.machine, progress.process):
            self.restarts += 1
            self._before = self.totals
        if progress.durable > last.durable:
            self.deaths = 0
        self.progress, self._heard_at = progress, time.monotonic()

    def note_death(self) -> None:
        """Count a call that found no process."""
        if not self.deaths:
            self._dead_since = time.monotonic()
        self.deaths += 1

    @property
    def seconds_dead(self) -> float:
        """Seconds since the first of `deaths`."""
        return time.monotonic() - self._dead_since

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the newest report."""
        return time.monotonic() - self._heard_at

    @property
    def totals(self) -> Progress:
        """Sums over all processes, where they are sums; else the newest."""
        now, before = self.progress, self._before
        parts = {*now.waiting, *before.waiting}
        return Progress(
            now=now.now,
            durable=now.durable,
            lookahead=now.lookahead,
            machine=now.machine,
            process=now.process,
            computing=before.computing + now.computing,
            waiting={one: before.waiting.get(one, 0.0) + now.waiting.get(one, 0.0) for one in sorted(parts)},
            waits_for=now.waits_for,
            bytes_sent=before.bytes_sent + now.bytes_sent,
            bytes_received=before.bytes_received + now.bytes_received,
            calls=before.calls + now.calls,
            behind=now.behind,
        )


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
