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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast, get_args

from antiphon.errors import RunError
from antiphon.files import fitting, open_text, read_rows, sync_file, sync_folder, writing
from antiphon.telemetry.figures import DigestRow, Figure, Kind, Recorder, RunDescription

__all__ = [
    "Digests",
    "DigestsCsv",
    "Row",
    "TableRecorder",
    "read_digests",
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


SIZE = 8
"""Bytes of a digest; in the file each is two hexadecimal digits."""
_STEP, _ROLLING = "step", "rolling"


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

    The columns are those of the first row; `rolling` of a resumed run goes on from the last row.
    """

    _columns: tuple[Column, ...] = ()
    _rolling = b""
    _last = 0

    def begin(self, description: RunDescription) -> None:
        """Open the table; raises as its base."""
        super().begin(description)
        found = read_digests(self._path)
        if found is not None and found.columns:
            self._columns = found.columns
            self._rolling = found.rows[max(found.rows)].rolling if found.rows else b""

    def digests(self, step: int, rows: Sequence[DigestRow]) -> None:
        """Append a row.

        Raises:
            RunError: The file cannot be written, or the table is of other agents and channels.
        """
        columns = tuple(Column(kind, name) for kind, name, _ in rows)
        if not self._columns:
            self._columns = columns
            self.append([_header(columns)])
        elif columns != self._columns:
            raise RunError(
                f"{self._path}: has digests of other agents and channels; resume in the run's own directory"
            )
        if step <= self._last:  # a simulation that began again
            found = read_digests(self._path)
            earlier = {} if found is None else {s: r for s, r in found.rows.items() if s < step}
            self._rolling = earlier[max(earlier)].rolling if earlier else b""
        self._last = step
        cells = b"".join(digest for _, _, digest in rows)
        self._rolling = _rolled(self._rolling, columns, step, cells)
        self.append([(step, self._rolling.hex(), *(cell.hex() for cell in _cells(cells)))])


def read_digests(path: Path) -> Digests | None:
    """Return the table of a run, without a last row that is being written or that a crash tore; None: there is none.

    Where a simulation began again, at an earlier step than that of the row before, later rows are dropped.

    Raises:
        RunError: The file cannot be read, or is no table of digests.
    """
    if not os.path.lexists(path):
        return None
    columns: tuple[Column, ...] = ()
    found: dict[int, Row] = {}
    with fitting(path):
        for cells in read_rows(path):
            if not columns:
                pairs = [cell.split(":", 1) for cell in cells[2:]]
                columns = tuple(Column(cast("Kind", kind), name) for kind, name in pairs)
                continue
            step, (rolling, *digests) = int(cells[0]), map(bytes.fromhex, cells[1:])
            if len(digests) != len(columns):
                raise ValueError(f"a row of {len(digests)} digests")
            if found and step <= next(reversed(found)):
                found = {past: row for past, row in found.items() if past < step}
            found[step] = Row(step, rolling, b"".join(digests))
    return Digests(columns, found)


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
