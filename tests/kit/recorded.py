"""What runs recorded, without what no two runs have alike."""

from __future__ import annotations

from pathlib import Path

from antiphon.telemetry.metrics import WALL_CLOCK


def metrics(run: str | Path) -> list[str]:
    """Rows of a run's metrics.csv, without wall-clock times."""
    rows = Path(run, "metrics.csv").read_text(encoding="utf-8").splitlines()
    return [row for row in rows if row.split(",")[-2] not in WALL_CLOCK]
