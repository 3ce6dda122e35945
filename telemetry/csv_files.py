"""Append-only tables, read up to the last complete line: metrics.csv, every metric of a run in long format, and parts.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import IO, cast

from antiphon.base.files import reading, sync_file, sync_folder, writing
from antiphon.telemetry.metrics import Kind, Metric, PartMetrics, Recorder, RunDescription


class TableRecorder(Recorder):
    """Recorder of a table; an existing table is continued."""

    header: Sequence[str]
    """The first line of a new table."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def begin(self, description: RunDescription) -> None:
        """Open the table; RunError if it cannot be written."""
        with writing(self._path):
            self._file = self._path.open("a", encoding="utf-8", newline="")
        if not self._path.stat().st_size:
            self.append([self.header])

    def append(self, rows: Iterable[Iterable[object]]) -> None:
        """Append rows, and flush them; RunError if they cannot be written."""
        assert self._file is not None, "begin() comes before rows"
        with writing(self._path):
            csv.writer(self._file, lineterminator="\n").writerows(rows)
            self._file.flush()

    def sync(self) -> None:
        if self._file is not None:
            with writing(self._path):
                sync_file(self._file)
                sync_folder(self._path.parent)

    def close(self) -> None:
        if self._file is not None:
            with writing(self._path):
                self._file.close()
            self._file = None


class CsvRecorder(TableRecorder):
    """Recorder of metrics as rows `step,kind,name,metric,value`, in `metrics.csv` of a run directory.

    Values are written with all their digits; values that are not finite as `nan`, `inf` and `-inf`.
    Distributions and the result are not part of the table.
    """

    header = ("step", "kind", "name", "metric", "value")

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        self.append((step, row.kind, row.name, row.metric, repr(float(row.value))) for row in rows)


class PartsCsv(TableRecorder):
    """Recorder of the metrics of parts, in `parts.csv` of the directory of a run in parts: the run's step, and `PartMetrics`."""

    header = ("step", *(field.name for field in fields(PartMetrics)))

    def parts(self, step: int, rows: Sequence[PartMetrics]) -> None:
        self.append((step, *astuple(row)) for row in rows)


def read_metrics(path: Path) -> Iterator[tuple[int, Metric]]:
    """Yield (step, metric) of every row of a metrics.csv; a last row without an end of line is ignored."""
    with reading(path), path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(line for line in file if line.endswith("\n"))
        next(rows, None)
        for step, kind, name, metric, value in rows:
            yield int(step), Metric(cast("Kind", kind), name, metric, float(value))
