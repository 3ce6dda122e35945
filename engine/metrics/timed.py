"""Figures with the time they were taken at, so that curves can run along seconds as well as along steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from antiphon.telemetry import Figure, Recorder, Recorders

__all__ = ["Timed"]


class Timed(Recorders):
    """A recorder that is told the wall-clock `seconds` of the run too, once for every step that has figures.

    Args:
        recorder: Who writes them down.
        seconds: How long the run has taken so far.
    """

    def __init__(self, recorder: Recorder, seconds: Callable[[], float]) -> None:
        super().__init__([recorder])
        self._seconds = seconds
        self._step: int | None = None

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Hand on the figures of a step, and the seconds if this is the first time it has any."""
        if step != self._step:
            self._step = step
            rows = [*rows, Figure("run", "", "seconds", self._seconds())]
        super().figures(step, rows)
