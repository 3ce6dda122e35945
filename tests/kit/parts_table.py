"""Reader of parts.csv for tests: the metrics that a run in parts writes."""

from __future__ import annotations

import csv
from pathlib import Path

from antiphon.telemetry import PartMetrics
from antiphon.telemetry.csv_files import PartsCsv


def read_parts(path: Path) -> dict[int, list[PartMetrics]]:
    """Return the metrics of a parts.csv by step, the parts in order; empty: there is no such file."""
    found: dict[int, list[PartMetrics]] = {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = (line for line in lines[1:] if line.endswith("\n"))
    for step, part, machine, *numbers in csv.reader(whole):
        totals = dict(zip(PartsCsv.header[3:], map(float, numbers), strict=True))
        row = PartMetrics(part=int(part), machine=machine, **totals)  # type: ignore[arg-type]
        found.setdefault(int(step), []).append(row)
    return found
