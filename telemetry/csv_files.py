"""Append-only tables, read up to the last complete line: metrics.csv, every metric of a run as a long table that any tool
reads.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast, get_args

from antiphon.errors import RunError
from antiphon.files import fitting, open_text, read_rows, sync_file, sync_folder, writing
from antiphon.telemetry.figures import Figure, Kind, Recorder, RunDescription

__all__ = [
    "TableRecorder",
    "read_figures",
]

HEADER = ("step", "kind", "name", "metric", "value")
_FIGURES_OF = frozenset(get_args(Kind))


class TableRecorder(Recorder):
    """Recorder of a table.

    Args:
        path: The file.
        resumed: Whether it goes on with a table that is there; else there may be none.
    """

    header: Sequence[str] = ()
    """The first line of a new table; empty: it comes with the first row."""

    def __init__(self, path: str | Path, *, resumed: bool = False) -> None:
        self._path = Path(path)
        self._resumed = resumed
        self._file: IO[str] | None = None

    def begin(self, description: RunDescription) -> None:
        """Open the table.

        Raises:
            RunError: If the file cannot be written, or exists although the run is new.
        """
        del description  # rows determine what exists, for implicit states are channels too
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(self._path) and not self._resumed:
                raise RunError(
                    f"{self._path}: exists already; resume that run or choose another log directory"
                )
            self._file = open_text(self._path, append=True)
        if self.header and not self._path.stat().st_size:
            self.append([self.header])

    def append(self, rows: Iterable[Iterable[object]]) -> None:
        """Append rows, and flush them; RunError where they cannot be written."""
        assert self._file is not None, "begin() comes before rows"
        with writing(self._path):
            csv.writer(self._file, lineterminator="\n").writerows(rows)
            self._file.flush()

    def sync(self) -> None:
        """Write the rows to the disk."""
        if self._file is not None:
            with writing(self._path):
                sync_file(self._file)
                sync_folder(self._path.parent)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with writing(self._path):
                self._file.close()
            self._file = None


class CsvRecorder(TableRecorder):
    """Recorder of figures as rows `step,kind,name,metric,value`, in `metrics.csv` of a run directory.

    Values are written with all their digits; those that are not finite as `nan`, `inf` and `-inf`.
    Distributions and the result are not part of the table.
    """

    header = HEADER

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Append one row per figure."""
        self.append((step, row.kind, row.name, row.metric, repr(float(row.value))) for row in rows)


def read_figures(path: Path) -> Iterator[tuple[int, Figure]]:
    """Yield (step, figure) of every row of a metrics.csv, without a last one that has no end of line.

    Raises:
        RunError: The file cannot be read, or has a row that is no figure.
    """
    with fitting(path):
        for step, kind, name, metric, value in read_rows(path, HEADER):
            if kind not in _FIGURES_OF:
                raise ValueError(f"{kind!r} has no figures")
            yield int(step), Figure(cast("Kind", kind), name, metric, float(value))
