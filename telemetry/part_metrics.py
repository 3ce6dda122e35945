"""Metrics of the parts of a run that several processes or machines compute."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class PartMetrics:
    """Progress and costs of one part; times, bytes and calls are totals since the session began.

    Seconds are wall-clock time, in a virtual run simulated time. The metrics do not affect the run.
    """

    part: int
    """Number of the part, from 0."""
    machine: str = ""
    """Where it runs: a host, with its device if there are several, or a machine of a cluster profile."""
    steps_taken: int = 0
    """Environment steps taken since step 0 of the run."""
    seconds: float = 0.0
    """Seconds since the session began."""
    computing: float = 0.0
    """Seconds spent computing steps."""
    waiting: Mapping[int, float] = field(default_factory=dict)
    """Seconds spent waiting, by the part whose exchange was missing; empty for a part that never waits."""
    bytes_sent: int = 0
    """Bytes sent to all other parts together."""
    bytes_received: int = 0
    """Bytes received from all other parts together."""
    calls: int = 0
    """Exchanges sent."""
    staleness: float = 0.0
    """Steps by which the oldest exchange from its neighbours is behind its own step; 0 without neighbours."""
    blocked_on: tuple[int, ...] = ()
    """Parts whose exchange it is waiting for."""

    @property
    def waited(self) -> float:
        """Seconds spent waiting for any part."""
        return sum(self.waiting.values())

    @property
    def waited_for(self) -> int | None:
        """The part it waited for longest, the first of several; None: it has not waited."""
        longest = max(sorted(self.waiting), key=self.waiting.__getitem__, default=None)
        return None if longest is None or self.waiting[longest] <= 0 else longest

    @property
    def metrics(self) -> dict[str, float]:
        """Its metrics by name as numbers, for curves: `waiting` for all parts together; `waiting_for`, the number of the part
        it waited for longest, nan if it has not waited; `blocked_on`, the first part it is waiting for, nan if it is not
        waiting."""
        longest = self.waited_for
        return {
            "steps_taken": self.steps_taken,
            "seconds": self.seconds,
            "computing": self.computing,
            "waiting": self.waited,
            "waiting_for": math.nan if longest is None else longest,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "calls": self.calls,
            "staleness": self.staleness,
            "blocked_on": self.blocked_on[0] if self.blocked_on else math.nan,
        }
