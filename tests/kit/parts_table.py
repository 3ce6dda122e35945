"""Reader of parts.csv for tests: the metrics that a run in parts writes."""

from __future__ import annotations

from pathlib import Path

from antiphon.telemetry import PartMetrics
from antiphon.telemetry.csv_files import PARTS_HEADER, read_rows


def read_parts(path: Path) -> dict[int, list[PartMetrics]]:
    """Return the metrics of a parts.csv by step, the parts in order; empty: there is no such file."""
    found: dict[int, list[PartMetrics]] = {}
    for step, part, machine, *numbers in read_rows(path) if path.exists() else ():
        totals = dict(zip(PARTS_HEADER[3:], map(float, numbers), strict=True))
        row = PartMetrics(part=int(part), machine=machine, **totals)  # type: ignore[arg-type]
        found.setdefault(int(step), []).append(row)
    return found
