"""parts.csv: the figures of the parts of a run as a table that any tool reads, a row for each part."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from antiphon.errors import RunError
from antiphon.files import read_rows, rewriting, write_csv, writing
from antiphon.telemetry.csv_files import TableRecorder
from antiphon.telemetry.parts.part_figures import PartFigures

__all__ = ["PARTS_HEADER", "PartsCsv", "read_parts"]

PARTS_HEADER = (
    "step",
    "part",
    "machine",
    "steps_taken",
    "seconds",
    "computing",
    "waiting",
    "bytes_sent",
    "bytes_received",
    "calls",
    "staleness",
    "blocked_on",
    "incarnation",
    "alive",
    "heartbeat_age",
)
"""Columns: the run's step, then the attributes of `PartFigures`."""


class PartsCsv(TableRecorder):
    """Recorder of the figures of parts, in `parts.csv` of the directory of a run in parts.

    `waiting` holds seconds by part, as `1=0.25 3=2.5`, `blocked_on` parts, as `1 3`; `alive` is 1 or 0. Numbers are written with all their digits.
    """

    _last = 0

    def start(self) -> None:
        """Write the header."""
        write_csv(self._path, [PARTS_HEADER])

    def parts(self, step: int, rows: Sequence[PartFigures]) -> None:
        """Append one row per part; of a simulation that began again, in place of those from its step on."""
        assert self._file is not None, "begin() comes before parts()"
        with writing(self._path):
            if step < self._last:
                self.rewind(step)
            self._last = step
            table = csv.writer(self._file, lineterminator="\n")
            table.writerows((step, *_cells(row)) for row in rows)
            self._file.flush()

    def drop_after(self, step: int) -> None:
        """Rewrite the table without the rows after `step`."""
        with rewriting(self._path) as target:
            table = csv.writer(target, lineterminator="\n")
            table.writerow(PARTS_HEADER)
            table.writerows((at, *_cells(row)) for at, row in _rows(self._path) if at <= step)


def read_parts(path: Path) -> dict[int, list[PartFigures]]:
    """Return the figures of a parts.csv by step, ascending, the parts in order; empty: there is no such file.

    Of several rows of a part at one step the last counts; a last row that has no end of line is left out.

    Raises:
        RunError: The file cannot be read, or has a damaged row.
    """
    found: dict[int, dict[int, PartFigures]] = {}
    if not os.path.lexists(path):
        return {}
    for step, row in _rows(path):
        found.setdefault(step, {})[row.part] = row
    return {step: [rows[part] for part in sorted(rows)] for step, rows in sorted(found.items())}


def _cells(row: PartFigures) -> Iterator[object]:
    """Yield the cells of a row after its step."""
    for name in PARTS_HEADER[1:]:
        value = getattr(row, name)
        if isinstance(value, Mapping):
            yield " ".join(f"{part}={seconds!r}" for part, seconds in sorted(value.items()))
        elif isinstance(value, tuple):
            yield " ".join(map(str, value))
        else:
            yield int(value) if isinstance(value, bool) else value


def _rows(path: Path) -> Iterator[tuple[int, PartFigures]]:
    """Yield (step, figures) of every row under the header, without a last one that has no end of line."""
    lines = read_rows(path)
    _, header = next(lines, (1, list(PARTS_HEADER)))
    if tuple(header) != PARTS_HEADER:
        raise RunError(f"{path}:1: no table of parts; its first line should be '{','.join(PARTS_HEADER)}'")
    for line, cells in lines:
        try:
            yield _row(dict(zip(PARTS_HEADER, cells, strict=True)))
        except ValueError:
            found = ",".join(cells)[:60]
            raise RunError(
                f"{path}:{line}: '{found}' is no row of {','.join(PARTS_HEADER)}; fix or remove it"
            ) from None


def _row(cells: Mapping[str, str]) -> tuple[int, PartFigures]:
    """Parse a row; ValueError where a cell is no number."""
    pairs = (pair.partition("=") for pair in cells["waiting"].split())
    return int(cells["step"]), PartFigures(
        part=int(cells["part"]),
        machine=cells["machine"],
        steps_taken=int(cells["steps_taken"]),
        seconds=float(cells["seconds"]),
        computing=float(cells["computing"]),
        waiting={int(part): float(seconds) for part, _, seconds in pairs},
        bytes_sent=int(cells["bytes_sent"]),
        bytes_received=int(cells["bytes_received"]),
        calls=int(cells["calls"]),
        staleness=float(cells["staleness"]),
        blocked_on=tuple(map(int, cells["blocked_on"].split())),
        incarnation=int(cells["incarnation"]),
        alive=bool(int(cells["alive"])),
        heartbeat_age=float(cells["heartbeat_age"]),
    )
