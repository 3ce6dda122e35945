"""The table of a study: as cells for a terminal, as table.md and as table.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from antiphon.engine.directory import write_text

__all__ = ["COLUMNS", "cells", "remarks", "write_tables"]

COLUMNS = ("variant", "n", "accuracy %", "95 % interval", "recovered", "95 % interval", "seconds")
_CSV = (
    *("variant", "n", "diverged", "accuracy_mean", "accuracy_sd", "accuracy_low", "accuracy_high"),
    *("recovered", "recovered_low", "recovered_high", "seconds"),
)
_REFERENCES = ("locked", "detached")
"""Variants whose recovered is 1 and 0 by definition."""


def cells(study: Mapping[str, Any]) -> list[list[str]]:
    """Return a row of text for each variant, in the order of `COLUMNS`."""
    rows = []
    for name, found in study["variants"].items():
        accuracy, share = found["accuracy"], found["recovered"]
        diverged = f" ({found['diverged']} diverged)" if found["diverged"] else ""
        undefined = "undefined" if study["contrast"] and not study["contrast"]["resolved"] else "–"
        rows.append(
            [
                name + diverged,
                str(found["n"]),
                _mean(accuracy),
                _interval(accuracy, 100, 1),
                undefined if share is None else f"{share['value']:.2f}",
                "" if share is None or name in _REFERENCES else _interval(share, 1, 2),
                _seconds(found["seconds"]),
            ]
        )
    return rows


def remarks(study: Mapping[str, Any]) -> list[str]:
    """Return the lines under the table: what its numbers are."""
    counts = [found["n"] for found in study["variants"].values()]
    interval = (
        "Student's t over seeds" if max(counts, default=0) > 1 else "Wilson's, of the test split (one seed)"
    )
    lines = [f"Accuracy of the readout on the test split; interval: {interval}. Seconds: mean per run."]
    gap = study["contrast"]
    if gap is None:
        lines.append("Recovered needs the variants locked and detached.")
        return lines
    margin = f"{100 * gap['difference']:.1f} points, standard error {100 * gap['error']:.2f}"
    if gap["resolved"]:
        over = "; interval: bootstrap over seeds, paired" if max(counts) > 1 else ""
        lines.append(
            f"Recovered: (variant - detached) / (locked - detached){over}. locked - detached: {margin}."
        )
    else:
        lines.append(f"Recovered is undefined: locked - detached is within three standard errors ({margin}).")
    lines.append("Learning rates are as the scenario gives them: none was tuned for a variant.")
    return lines


def write_tables(directory: Path, study: Mapping[str, Any]) -> None:
    """Write table.csv and table.md.

    Raises:
        RunError: They cannot be written.
    """
    write_text(directory / "table.csv", _csv(study))
    heading = f"# {study['scenario']}: {study['steps']:,} steps, {study['seeds']} seed{'s' if study['seeds'] != 1 else ''}"
    lines = [heading, "", _line(COLUMNS), _line(["---", *("---:" for _ in COLUMNS[1:])])]
    lines += [_line(row) for row in cells(study)]
    lines += [text for remark in remarks(study) for text in ("", remark)]
    write_text(directory / "table.md", "\n".join(lines) + "\n")


def _csv(study: Mapping[str, Any]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_CSV)
    undefined = "undefined" if study["contrast"] and not study["contrast"]["resolved"] else None
    for name, found in study["variants"].items():
        accuracy, share = found["accuracy"] or {}, found["recovered"] or {}
        row = [
            name,
            found["n"],
            found["diverged"],
            *(accuracy.get(key) for key in ("value", "sd", "low", "high")),
        ]
        row += [
            share.get("value", undefined),
            share.get("low"),
            share.get("high"),
            round(found["seconds"], 3),
        ]
        table.writerow(row)
    return text.getvalue()


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _mean(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return "–"
    spread = "" if estimate["sd"] is None else f" ± {100 * estimate['sd']:.2f}"
    return f"{100 * estimate['value']:.2f}{spread}"


def _interval(estimate: Mapping[str, Any] | None, factor: float, digits: int) -> str:
    if estimate is None or estimate["low"] is None:
        return ""
    return f"{factor * estimate['low']:.{digits}f} – {factor * estimate['high']:.{digits}f}"
