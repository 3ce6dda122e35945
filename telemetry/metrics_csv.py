"""metrics.csv: every figure of a run as a long table that any tool reads."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from antiphon.errors import RunError
from antiphon.telemetry.figures import Figure, Recorder, RunDescription
from antiphon.telemetry.names import writing
from antiphon.telemetry.tables import TEXT, rewriting, whole_lines

HEADER = ("step", "kind", "name", "metric", "value")


class CsvRecorder(Recorder):
    """Recorder of figures as rows `step,kind,name,metric,value`.

    Values are written with all their digits; those that are not finite as `nan`, `inf` and `-inf`.
    Distributions and the result are not part of the table.

    Args:
        path: The file, `metrics.csv` in a run directory.
        resume_step: None for a new run. For a run that goes on, the step of its checkpoint: rows after it,
            and a last row that a crash tore, are dropped (the file is replaced whole), and new rows follow.
    """

    def __init__(self, path: str | Path, resume_step: int | None = None) -> None:
        self._path = Path(path)
        self._resume_step = resume_step
        self._file: IO[str] | None = None

    def begin(self, description: RunDescription) -> None:
        """Open the table.

        Raises:
            RunError: If the file cannot be written, exists although the run is new, or is no table of
                figures.
        """
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():
                self._file = self._path.open("x", **TEXT)
                csv.writer(self._file, lineterminator="\n").writerow(HEADER)
                self._file.flush()
            elif self._resume_step is None:
                raise RunError(
                    f"{self._path}: exists already; resume that run or choose another log directory"
                )
            else:
                _drop_after(self._path, self._resume_step)
                self._file = self._path.open("a", **TEXT)

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Append one row per figure.

        Raises:
            RunError: The file cannot be written.
        """
        assert self._file is not None, "begin() comes before figures()"
        with writing(self._path):
            table = csv.writer(self._file, lineterminator="\n")
            table.writerows((step, row.kind, row.name, row.metric, repr(float(row.value))) for row in rows)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with writing(self._path):
                self._file.close()
            self._file = None


def _drop_after(path: Path, step: int) -> None:
    """Rewrite the table without the rows after `step`."""
    with rewriting(path) as target:
        table = csv.writer(target, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows(row for row in _whole_rows(path) if int(row[0]) <= step)


def _whole_rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows under the header, without a last one that has no end of line."""
    lines, first = whole_lines(path), ",".join(HEADER)
    _, header = next(lines, (1, None))
    begun = header is None and first.startswith(path.read_text(encoding="utf-8", errors="replace"))
    if not begun and (header is None or tuple(header) != HEADER):
        raise RunError(f"{path}:1: no table of figures; its first line should be '{first}'")
    for line, row in lines:
        if len(row) != len(HEADER) or not row[0].isdecimal():
            found = ",".join(row)[:60]
            raise RunError(f"{path}:{line}: '{found}' is no row of {first}; mend or remove it")
        yield row
