"""parts.csv: the metrics of the parts of a run as a table, with a row for each part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from antiphon.telemetry.csv_files import TableRecorder
from antiphon.telemetry.parts.part_metrics import PartMetrics

PARTS_HEADER = ("step", *(field.name for field in fields(PartMetrics)))
"""Columns: the run's step, then the attributes of `PartMetrics`."""


class PartsCsv(TableRecorder):
    """Recorder of the metrics of parts, in `parts.csv` of the directory of a run in parts.

    `waiting` holds seconds by part, as `1=0.25 3=2.5`; `blocked_on` holds parts, as `1 3`. Numbers are written with all
    their digits.
    """

    header = PARTS_HEADER

    def parts(self, step: int, rows: Sequence[PartMetrics]) -> None:
        self.append((step, *_cells(row)) for row in rows)


def _cells(row: PartMetrics) -> Iterator[object]:
    for name in PARTS_HEADER[1:]:
        value = getattr(row, name)
        if isinstance(value, Mapping):
            yield " ".join(f"{part}={seconds!r}" for part, seconds in sorted(value.items()))
        elif isinstance(value, tuple):
            yield " ".join(map(str, value))
        else:
            yield value
