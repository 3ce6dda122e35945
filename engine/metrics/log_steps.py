"""The steps of a run that have a log entry: `telemetry.period`, the first step, and the last."""

from __future__ import annotations

from typing import NamedTuple

_ENTRIES = 10
"""Log entries from one sample of messages to the next, after as many with one each."""


class LogSteps(NamedTuple):
    """The steps at which metrics are recorded: the first, every `telemetry.period`th, and those that may be the last of a run."""

    period: int
    """0: nothing is recorded."""
    until: int
    """Steps taken at the end of the run."""
    may_end: int = 0
    """Steps from one evaluation that can end the run to the next; 0: none can."""

    def due(self, step: int) -> bool:
        if not self.period:
            return False
        periods = filter(None, (self.period, self.may_end))
        return step == 0 or step + 1 == self.until or any((step + 1) % every == 0 for every in periods)

    def following(self, step: int) -> int:
        """Return the first step at or after `step` at which metrics are recorded."""
        if step == 0:
            return 0
        periods = filter(None, (self.period, self.may_end))
        ends = [-(-(step + 1) // every) * every - 1 for every in periods]
        return min([*ends, *([self.until - 1] if step < self.until else [])])

    def sampled(self, step: int) -> bool:
        """Whether messages are sampled at a step too: at the first ten log entries, at every tenth, and at the last."""
        if step == 0 or step + 1 == self.until:
            return True
        entry, between = divmod(step + 1, self.period)
        return not between and (entry < _ENTRIES or entry % _ENTRIES == 0)
