"""The writer of the figures of parts: with each row of the run, and in between while a part is gone and where one comes back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.parts.transport import Parts, Stop
from antiphon.telemetry.parts.part_figures import PartFigures

__all__ = ["FiguresWriter"]

_LOOK_EVERY = 1.0
"""Seconds between two looks at whether all parts run."""
_GONE_EVERY = 10.0
"""Seconds between two rows while one of them does not."""


class FiguresWriter:
    """Hands the figures of parts to the recorders of a simulation.

    Parts are behind the simulation while they take steps for it: rows in between are of the step that all have reached.
    """

    def __init__(self) -> None:
        self._step = 0
        self._known: dict[int, tuple[bool, int]] = {}
        """Whether each part ran, and its incarnation, in the newest row; a part that is not there runs for the first time."""
        self._looked = self._written = 0.0

    def write(self, simulation: BaseSimulation, figures: Sequence[PartFigures], step: int) -> None:
        """Hand over the figures of a step."""
        self._step, self._written = step, time.monotonic()
        self._known = {row.part: (row.alive, row.incarnation) for row in figures}
        for recorder in simulation.recorders:
            recorder.parts(step, figures)

    def following(self, simulation: BaseSimulation, parts: Parts) -> Stop:
        """Return `simulation.stopping` for `Parts.advance`, which also writes the figures if a part has gone or come back since
        they were written, and every ten seconds while one is gone.
        """

        def stop() -> bool:
            now = time.monotonic()
            if simulation.recorders and now - self._looked >= _LOOK_EVERY:
                self._looked = now
                figures = parts.statistics()
                if self._is_news(figures, now):
                    reached = min(row.steps_taken for row in figures)
                    self.write(simulation, figures, max(self._step, reached))
            return simulation.stopping()

        return stop

    def _is_news(self, figures: Sequence[PartFigures], now: float) -> bool:
        """Return whether a part has gone or come back since the newest row, or is gone and the row is old."""
        if any((row.alive, row.incarnation) != self._known.get(row.part, (True, 0)) for row in figures):
            return True
        return now - self._written >= _GONE_EVERY and any(not row.alive for row in figures)
