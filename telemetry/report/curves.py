"""Reader of the report's figures from metrics.csv, in one pass."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.csv_files import HEADER
from antiphon.telemetry.report.numbers import METRICS

__all__ = ["ALIGNMENT", "MEASURED", "Curve", "Table", "read_table"]

ALIGNMENT = ("sg_loss", "cosine", "norm_ratio", "r2")
"""Figures of channels that are plotted as means over channels."""
MEASURED = ("value", "value_low", "value_high", "ablation")
"""Figures of channels whose newest number is kept."""
_SCORES = (*METRICS, "loss")
_DIGITS = 15
"""Of a step, at most."""
_UNASKED = re.compile(
    rf"[0-9]+,channel,[^\",\n]*,(?!(?:{'|'.join((*ALIGNMENT, *MEASURED))}),)[a-z0-9_]+,[-+.0-9a-z]+\n"
)
"""Pattern of unquoted lines of unused channel figures: most of a long table."""
_SHOWN = 80
"""Characters of a row that an error quotes."""


@dataclass(frozen=True)
class Curve:
    """One figure over time.

    Attributes:
        steps: [rows], ascending.
        values: [rows].
    """

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass
class Table:
    """The report's data from a run's metrics.csv.

    Attributes:
        agents: By agent and metric of its objective.
        env: By metric.
        channels: By metric: the mean over the channels that have it.
        measured: By channel and metric: the newest number, and its step.
        damage: Error in the table; empty: none.
    """

    agents: dict[tuple[str, str], Curve] = field(default_factory=dict)
    env: dict[str, Curve] = field(default_factory=dict)
    channels: dict[str, Curve] = field(default_factory=dict)
    measured: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)
    damage: str = ""


def read_table(path: Path) -> Table:
    """Read a metrics.csv up to its end, or up to where it is damaged.

    Args:
        path: The file. An unfinished last line is ignored.
    """
    found = Table()
    agents: dict[tuple[str, str], dict[int, float]] = {}
    env: dict[str, dict[int, float]] = {}
    sums: dict[str, dict[int, tuple[float, int]]] = {metric: {} for metric in ALIGNMENT}
    try:
        for step, kind, name, metric, value in _rows(path):
            if kind == "agent" and metric in _SCORES:
                agents.setdefault((name, metric), {})[step] = value
            elif kind == "env":
                env.setdefault(metric, {})[step] = value
            elif kind == "channel" and metric in sums and math.isfinite(value):
                total, count = sums[metric].get(step, (0.0, 0))
                sums[metric][step] = total + value, count + 1
            elif kind == "channel" and metric in MEASURED:
                found.measured.setdefault(name, {})[metric] = step, value
    except FileNotFoundError:
        found.damage = f"{path.name} is not there"
    except (OSError, csv.Error, ValueError) as error:
        found.damage = f"{path.name} is damaged, what follows is left out: {error}"
    found.agents = {key: _curve(points.items()) for key, points in agents.items()}
    found.env = {metric: _curve(points.items()) for metric, points in env.items()}
    for metric, points in sums.items():
        if points:
            means = ((step, total / count) for step, (total, count) in points.items())
            found.channels[metric] = _curve(means)
    return found


def _curve(points: Iterable[tuple[int, float]]) -> Curve:
    ordered = sorted(points)
    steps, values = zip(*ordered, strict=True)
    return Curve(np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64))


def _rows(path: Path) -> Iterator[tuple[int, str, str, str, float]]:
    """Yield the rows; ValueError on an invalid one, except a torn last one."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = _Lines(file)
        table = csv.reader(lines)
        header = next(table, None)
        if header is not None and tuple(header) != HEADER:
            raise ValueError(f"line 1 is not {','.join(HEADER)}")
        for row in table:
            try:
                step, kind, name, metric, value = row
                if len(step) > _DIGITS:
                    raise ValueError
                yield int(step), kind, name, metric, float(value)
            except ValueError:
                what = f"line {lines.number}: '{','.join(row)[:_SHOWN]}' is no row of {','.join(HEADER)}"
                raise ValueError(what) from None


class _Lines:
    """Iterator over complete lines (the last may be torn), without those of unused figures.

    Attributes:
        number: Of the newest line, from 1.
    """

    def __init__(self, file: Iterable[str]) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        """Yield the lines."""
        skip = _UNASKED.fullmatch
        for line in self._file:
            self.number += 1
            if line.endswith("\n") and not skip(line):
                yield line
