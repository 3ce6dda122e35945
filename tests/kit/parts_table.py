"""Recorder and reader of parts.csv for tests: the metrics that a run in parts writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from antiphon.telemetry import PartMetrics
from antiphon.telemetry.csv_files import PARTS_HEADER, PartsCsv, read_rows


def recorder(path: Path) -> PartsCsv:
    """Return the recorder that writes the table."""
    return PartsCsv(path)


def read_parts(path: Path) -> dict[int, list[PartMetrics]]:
    """Return the metrics of a parts.csv by step, ascending, the parts in order; empty: there is no such file.

    Of several rows of a part at one step the last counts; where a simulation began again, at an earlier step than that of
    the row before, later rows are dropped; a last row that has no end of line is left out.
    """
    found: dict[int, dict[int, PartMetrics]] = {}
    if not os.path.lexists(path):
        return {}
    for cells in read_rows(path):
        step, row = _row(dict(zip(PARTS_HEADER, cells, strict=True)))
        if found and step < next(reversed(found)):
            found = {past: rows for past, rows in found.items() if past < step}
        found.setdefault(step, {})[row.part] = row
    return {step: [rows[part] for part in sorted(rows)] for step, rows in found.items()}


def _row(cells: Mapping[str, str]) -> tuple[int, PartMetrics]:
    """Parse a row."""
    return int(cells["step"]), PartMetrics(
        part=int(cells["part"]),
        machine=cells["machine"],
        steps_taken=int(cells["steps_taken"]),
        seconds=float(cells["seconds"]),
        computing=float(cells["computing"]),
        waiting=float(cells["waiting"]),
        bytes_sent=int(cells["bytes_sent"]),
        bytes_received=int(cells["bytes_received"]),
        calls=int(cells["calls"]),
    )
