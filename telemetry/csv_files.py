"""Append-only tables, read up to the last complete line: metrics.csv, every figure of a run as a long table that any
tool reads, and digests.csv, digests of the learned state by step, for bitwise comparison of runs.

A row of digests.csv has the digest of all state of each agent and each channel, 16 hexadecimal digits each, and before
them `rolling`: the digest of that row and of all rows before it. Equal `rolling` digests mean that everything was equal
up to there; cells can be compared between runs whose rows are at other steps.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast, get_args

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
from antiphon.telemetry.figures import DigestRow, Figure, Kind, Recorder, RunDescription

__all__ = [
    "Digests",
    "DigestsCsv",
    "Row",
    "TableRecorder",
    "is_step",
    "read_digests",
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


SIZE = 8
"""Bytes of a digest; in the file each is two hexadecimal digits."""
_STEP, _ROLLING = "step", "rolling"
_KINDS = ("agent", "channel")


class Column(NamedTuple):
    """The agent or channel whose digests a column holds."""

    kind: Kind
    name: str


class Row(NamedTuple):
    """The digests of one step.

    Attributes:
        step: How many steps had been taken.
        rolling: Of this row and all before it, 8 bytes.
        cells: Of every column, one after the other, 8 bytes each.
    """

    step: int
    rolling: bytes
    cells: bytes


@dataclass(frozen=True)
class Digests:
    """A table of digests.

    Attributes:
        columns: Agents, then channels, in canonical order.
        rows: By step, ascending.
    """

    columns: tuple[Column, ...]
    rows: Mapping[int, Row]

    def of(self, step: int) -> dict[Column, bytes]:
        """Return the digests of one row by column."""
        return dict(zip(self.columns, _cells(self.rows[step].cells), strict=True))


class DigestsCsv(TableRecorder):
    """Recorder of digests as rows `step,rolling,agent:NAME,…,channel:NAME,…`, in `digests.csv` of a run directory.

    The columns are those of the first row; `rolling` of a resumed run goes on from the last row left.
    """

    def __init__(self, path: str | Path, resume_step: int | None = None) -> None:
        super().__init__(path, resume_step)
        self._columns: tuple[Column, ...] = ()
        self._rolling = b""
        self._last = 0

    def digests(self, step: int, rows: Sequence[DigestRow]) -> None:
        """Append a row; of a simulation that began again, in place of those from its step on.

        Raises:
            RunError: The file cannot be written, or the table is of other agents and channels.
        """
        assert self._file is not None, "begin() comes before digests()"
        columns = tuple(Column(kind, name) for kind, name, _ in rows)
        with writing(self._path):
            if step <= self._last:
                self.rewind(step)
            self._last = step
            table = csv.writer(self._file, lineterminator="\n")
            if not self._columns:
                self._columns = columns
                table.writerow(_header(columns))
            elif columns != self._columns:
                raise RunError(
                    f"{self._path}: has digests of other agents and channels; resume in the run's own directory"
                )
            cells = b"".join(digest for _, _, digest in rows)
            self._rolling = _rolled(self._rolling, columns, step, cells)
            table.writerow((step, self._rolling.hex(), *(cell.hex() for cell in _cells(cells))))
            self._file.flush()

    def drop_after(self, step: int) -> None:
        """Rewrite the table without the rows after `step`."""
        self._columns, rows = _digest_rows(self._path)
        self._rolling = b""
        with rewriting(self._path) as target:
            table = csv.writer(target, lineterminator="\n")
            if self._columns:
                table.writerow(_header(self._columns))
            for row in rows:
                if row.step <= step:
                    self._rolling = row.rolling
                    cells = (cell.hex() for cell in _cells(row.cells))
                    table.writerow((row.step, row.rolling.hex(), *cells))


def read_digests(path: Path) -> Digests | None:
    """Return the table of a run, without a last row that is being written or that a crash tore; None: there is none.

    Raises:
        RunError: The file cannot be read, or is no table of digests.
    """
    if not os.path.lexists(path):
        return None
    columns, rows = _digest_rows(path)
    return Digests(columns, {row.step: row for row in rows})


def _header(columns: Sequence[Column]) -> list[str]:
    return [_STEP, _ROLLING, *(f"{kind}:{name}" for kind, name in columns)]


def _rolled(before: bytes, columns: Sequence[Column], step: int, cells: bytes) -> bytes:
    """Return the digest of a row and all before it; the first includes the columns."""
    digest = hashlib.blake2b(digest_size=SIZE)
    if not before:
        digest.update("\0".join(_header(columns)).encode("utf-8", "surrogatepass"))
    digest.update(before)
    digest.update(step.to_bytes(8, "little"))
    digest.update(cells)
    return digest.digest()


def _cells(cells: bytes) -> Iterator[bytes]:
    return (cells[start : start + SIZE] for start in range(0, len(cells), SIZE))


def _digest_rows(path: Path) -> tuple[tuple[Column, ...], Iterator[Row]]:
    """Return the columns of a table, and its rows without a last one that has no end of line.

    A file that a crash left without a whole header has no columns.
    """
    lines = read_rows(path)
    _, header = next(lines, (1, []))
    if not header:
        return (), iter(())
    pairs = [cell.split(":", 1) for cell in header[2:]]
    text = not any(map(_BYTES.search, header))
    named = all(len(pair) == 2 and pair[0] in _KINDS for pair in pairs)
    if header[:2] != [_STEP, _ROLLING] or not named or not text:
        raise RunError(f"{path}:1: no table of digests; its first line should be 'step,rolling,agent:NAME,…'")
    columns = tuple(Column(cast("Kind", kind), name) for kind, name in pairs)
    return columns, _rows(path, lines, len(header))


def _rows(path: Path, lines: Iterator[tuple[int, list[str]]], width: int) -> Iterator[Row]:
    newest = 0
    for line, cells in lines:
        row = _row(cells) if len(cells) == width else None
        if row is None or row.step <= newest:
            found = ",".join(cells)[:60]
            raise RunError(
                f"{path}:{line}: {found!r} is no row of {width - 1} digests at a later step than the one before; "
                "fix or remove it"
            )
        newest = row.step
        yield row


def _row(cells: Sequence[str]) -> Row | None:
    """Parse a row as bytes; None: it is invalid."""
    step, digests = cells[0], cells[1:]
    if not is_step(step) or any(len(digest) != 2 * SIZE for digest in digests):
        return None
    try:
        rolling, *_ = found = [bytes.fromhex(digest) for digest in digests]
    except ValueError:
        return None
    return Row(int(step), rolling, b"".join(found[1:]))
