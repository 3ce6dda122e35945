"""Append-only tables, read up to the last complete line: metrics.csv, every metric of a run as a long table that any tool
reads.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast, get_args

from antiphon.errors import RunError
from antiphon.files import (
    open_text,
    read_bytes,
    read_rows,
    rewriting,
    sync_file,
    sync_folder,
    write_csv,
    writing,
)
from antiphon.telemetry.figures import Figure, Kind, Recorder, RunDescription

__all__ = [
    "TableRecorder",
    "is_step",
    "read_figures",
]

HEADER = ("step", "kind", "name", "metric", "value")
_FIGURES_OF = frozenset(get_args(Kind))
_DIGITS = 15
"""Of a step, at most."""


class TableRecorder(Recorder):
    """Recorder of a table that a resumed run goes on with.

    Args:
        path: The file.
        resume_step: None for a new run. For a run that goes on, the step of its checkpoint: rows after it, and a last
            row that a crash tore, are dropped (the file is replaced whole), and new rows follow.
    """

    def __init__(self, path: str | Path, resume_step: int | None = None) -> None:
        self._path = Path(path)
        self._resume_step = resume_step
        self._file: IO[str] | None = None

    def begin(self, description: RunDescription) -> None:
        """Open the table.

        Raises:
            RunError: If the file cannot be written, exists although the run is new, or is no such table.
        """
        del description  # rows determine what exists, for implicit states are channels too
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(self._path):
                if self._resume_step is None:
                    raise RunError(
                        f"{self._path}: exists already; resume that run or choose another log directory"
                    )
                self.drop_after(self._resume_step)
            else:
                self.start()
            self._file = open_text(self._path, append=True)

    def start(self) -> None:
        """Write the beginning of a new table."""

    def drop_after(self, step: int) -> None:
        """Rewrite the table without the rows after `step`."""

    def rewind(self, step: int) -> None:
        """Drop the rows from `step` on, of a simulation that began again before it; what follows is appended."""
        if self._file is not None:
            self._file.close()
            self.drop_after(step - 1)
            self._file = open_text(self._path, append=True)

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

    def start(self) -> None:
        """Write the header."""
        write_csv(self._path, [HEADER])

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Append one row per figure."""
        assert self._file is not None, "begin() comes before figures()"
        with writing(self._path):
            table = csv.writer(self._file, lineterminator="\n")
            table.writerows((step, row.kind, row.name, row.metric, repr(float(row.value))) for row in rows)
            self._file.flush()

    def drop_after(self, step: int) -> None:
        """Rewrite the table without the rows after `step`."""
        with rewriting(self._path) as target:
            table = csv.writer(target, lineterminator="\n")
            table.writerow(HEADER)
            table.writerows(row for row in _metric_rows(self._path) if int(row[0]) <= step)


_BYTES = re.compile("[\ud800-\udfff]")
"""Bytes that are no UTF-8, as they are read."""


def _metric_rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows under the header, without a last one that has no end of line."""
    lines, first = read_rows(path), ",".join(HEADER)
    _, header = next(lines, (1, None))
    begun = header is None and first.encode().startswith(read_bytes(path, len(first)))
    if not begun and (header is None or tuple(header) != HEADER):
        raise RunError(f"{path}:1: no table of figures; its first line should be '{first}'")
    for line, row in lines:
        if not _is_figure(row):
            found = ",".join(row)[:60]
            raise RunError(f"{path}:{line}: {found!r} is no row of {first}; fix or remove it")
        yield row


def _is_figure(row: Sequence[str]) -> bool:
    if len(row) != len(HEADER) or not is_step(row[0]) or row[1] not in _FIGURES_OF:
        return False
    if any(_BYTES.search(name) for name in row[2:4] if not name.isascii()):
        return False
    try:
        float(row[4])
    except ValueError:
        return False
    return True


def is_step(cell: str) -> bool:
    """Return whether a cell is a number of steps: ASCII digits, not too many for 64 bits."""
    return cell.isascii() and cell.isdecimal() and len(cell) <= _DIGITS


def read_figures(path: Path) -> Iterator[tuple[int, Figure]]:
    """Yield (step, figure) of every row of a metrics.csv, without a last one that has no end of line.

    Raises:
        RunError: The file cannot be read, or has a damaged row.
    """
    for step, kind, name, metric, value in _metric_rows(path):
        yield int(step), Figure(cast("Kind", kind), name, metric, float(value))
