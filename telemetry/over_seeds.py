"""Several seeds of one scenario as one run of TensorBoard: of every figure the mean, and a band around it."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from antiphon.files import writing
from antiphon.telemetry.csv_files import read_figures
from antiphon.telemetry.event_file import Chart, EventFile, event_files
from antiphon.telemetry.figures import MEASURED, Figure, Kind, Recorder, RunDescription
from antiphon.telemetry.names import tag_part
from antiphon.telemetry.statistics import standard_error
from antiphon.telemetry.tensorboard import Curves, in_events

__all__ = ["OverSeeds"]

_CATEGORIES: dict[Kind, str] = {"agent": "Agents over seeds", "env": "Environment over seeds"}
"""Category of the bands in the Custom Scalars tab; channels have means without bands."""
_ENDED = math.inf


class OverSeeds:
    """Recorder of means and bands in one folder of TensorBoard events, beside the runs of the seeds.

    The mean has the tag that the figure has in the runs, so that all lie in one chart. `seeds/<tag>/mean`, `low` and
    `high` are a band of Custom Scalars: the mean and one standard error to either side, over the seeds that have the
    figure at the step. A step is written once every seed has passed it; of a long run only some are (`in_events`).

    Args:
        logdir: The folder; it is made, and events that are there are replaced, with the first step that is written.
        description: Of any of the runs.
        seeds: How many runs there are.
    """

    def __init__(self, logdir: Path, description: RunDescription, seeds: int) -> None:
        self._curves = Curves(description)
        self._every, self._until = description.every, description.until
        self._reached: list[float] = [0] * seeds
        self._waiting: dict[int, dict[Figure, list[float]]] = {}
        """Values of the seeds by step and figure."""
        self._bands: dict[Kind, dict[str, Chart]] = {kind: {} for kind in _CATEGORIES}
        self._charted = 0
        self._logdir = logdir
        self._events: EventFile | None = None

    def recorder(self, seed: int) -> _Seed:
        """Return the recorder of a run (its seed's number, from 0), to be closed when it has ended."""
        return _Seed(self, seed)

    def read(self, seed: int, table: Path, until: float = math.inf) -> None:
        """Add the rows of a run's metrics.csv, if it is there, up to the step `until`; nothing is written before all are read.

        Raises:
            RunError: The file cannot be read.
        """
        if not os.path.lexists(table):
            return
        last = 0
        for step, figure in read_figures(table):
            if step <= until:
                self._add(step, [figure])
                last = step
        self._reach(seed, last)

    def take(self, seed: int, step: int, rows: Iterable[Figure]) -> None:
        """Add the figures of a seed at a step; its steps ascend.

        Raises:
            RunError: The folder cannot be written.
        """
        self._add(step, rows)
        self._reach(seed, step)

    def _add(self, step: int, rows: Iterable[Figure]) -> None:
        whole = step == self._until or in_events(step, self._every)
        for row in rows:
            if row.kind != "run" and math.isfinite(row.value) and (whole or row.metric in MEASURED):
                waiting = self._waiting.setdefault(step, {})
                waiting.setdefault(row._replace(value=0.0), []).append(row.value)

    def ended(self, seed: int) -> None:
        """Mark a seed as ended."""
        self._reach(seed, _ENDED)

    def close(self) -> None:
        """Write the remaining steps, and close the file; a second call does nothing."""
        for seed in range(len(self._reached)):
            self.ended(seed)
        if self._events is not None:
            self._events.close()

    def _reach(self, seed: int, step: float) -> None:
        if step <= self._reached[seed]:
            return
        self._reached[seed] = step
        past = min(self._reached)
        ready = sorted(waiting for waiting in self._waiting if waiting < past)
        if not ready:
            return
        self._events = self._events or self._opened()
        for passed in ready:
            self._write(self._events, passed, self._waiting.pop(passed))
        self._events.flush()

    def _opened(self) -> EventFile:
        with writing(self._logdir):
            for path in event_files(self._logdir):
                path.unlink()
        events = EventFile(self._logdir)
        events.forget_after(0)
        return events

    def _write(self, events: EventFile, step: int, figures: Mapping[Figure, Sequence[float]]) -> None:
        events.scalars(step, self._scalars(figures))
        count = sum(map(len, self._bands.values()))
        if count > self._charted:
            self._charted = count
            charts = {_CATEGORIES[kind]: list(found.values()) for kind, found in self._bands.items() if found}
            events.charts(step, charts)

    def _scalars(self, figures: Mapping[Figure, Sequence[float]]) -> Iterator[tuple[str, str, float]]:
        for figure, values in figures.items():
            named = self._curves.tag(figure.kind, figure.name, figure.metric)
            if named is None:
                continue
            tag, title = named
            mean = statistics.fmean(values)
            yield tag, title, mean
            if figure.kind not in _CATEGORIES:
                continue
            error = standard_error(values) if len(values) > 1 else 0.0
            for edge, value in (("mean", mean), ("low", mean - error), ("high", mean + error)):
                yield f"seeds/{tag}/{edge}", f"seeds/{title}/{edge}", value
            heading = " ".join(part for part in (figure.name, figure.metric) if part)
            band = Chart(heading, f"seeds/{tag}/mean", (f"seeds/{tag}/low", f"seeds/{tag}/high"))
            self._bands[figure.kind].setdefault(tag_part(heading), band)


class _Seed(Recorder):
    """The recorder of one seed."""

    def __init__(self, whole: OverSeeds, seed: int) -> None:
        self._whole, self._seed = whole, seed

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Pass on the figures of a step."""
        self._whole.take(self._seed, step, rows)

    def close(self) -> None:
        """Mark this seed as ended."""
        self._whole.ended(self._seed)
