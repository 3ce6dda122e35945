"""Machines in virtual time: the present status of each, and its totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["MachineState", "Status"]

Status = Literal["computing", "waiting", "away"]


@dataclass(slots=True)
class MachineState:
    """A machine and the part that it computes; times in simulated seconds, totals since the run began."""

    status: Status = "waiting"
    since: float = 0.0
    """When the status began."""
    waits_for: int | None = None
    """The part whose exchange it waits for."""
    steps_taken: int = 0
    """Steps computed to their end, repeated ones included."""
    computing: float = 0.0
    """Spent on steps computed to their end, and on those that a failure broke off."""
    repeated: float = 0.0
    """The share of `computing` that a failure has undone."""
    unsaved: float = 0.0
    """The share of `computing` that the newest checkpoint does not hold."""
    waiting: dict[str, float] = field(default_factory=dict)
    """By the part whose exchange was missing, as a word: a state on disk has words as keys."""
    away: float = 0.0
    failed_at: float = 0.0
    """When it failed the last time."""
    calls: int = 0
    """Exchanges sent."""
    calls_lost: int = 0
    """Exchanges sent that did not arrive: lost on the way, or the receiver was away."""
    bytes_sent: int = 0
    bytes_received: int = 0
    incarnation: int = 0
    """Failures so far."""

    def change(self, status: Status, now: float, waits_for: int | None = None) -> None:
        """End the present status at `now`, add its time to the totals, and begin another one."""
        self.account(now)
        self.status, self.waits_for = status, waits_for

    def account(self, now: float) -> None:
        """Add the time of the present status up to `now` to the totals."""
        passed, self.since = now - self.since, now
        if self.status == "computing":
            self.computing += passed
            self.unsaved += passed
        elif self.status == "away":
            self.away += passed
        elif self.waits_for is not None and passed:
            key = str(self.waits_for)
            self.waiting[key] = self.waiting.get(key, 0.0) + passed
