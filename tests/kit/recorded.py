"""What runs recorded, without what no two runs have alike."""

from __future__ import annotations

from pathlib import Path

WALL_CLOCK = ("seconds", "steps_per_second")
"""Metrics of a run that are different on another machine, and on every execution."""


def metrics(run: str | Path) -> list[str]:
    """Rows of a run's metrics.csv, without wall-clock times."""
    rows = Path(run, "metrics.csv").read_text(encoding="utf-8").splitlines()
    return [row for row in rows if row.split(",")[-2] not in WALL_CLOCK]
