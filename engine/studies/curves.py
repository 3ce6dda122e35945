"""Learning curves of a study: metrics in training against steps and seconds, over the seeds of every line.

They come from each run's metrics.csv, whose figures are means over the steps since the row before.
"""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from antiphon.engine.studies.scoring import mean_of
from antiphon.engine.studies.summary import LOCKED
from antiphon.files import write_csv
from antiphon.scenarios.training import less_is_better, split_metric
from antiphon.telemetry.csv_files import read_figures

__all__ = ["learning_curves", "over_seeds", "read_curves", "smoothed", "steps_to_locked", "write_curves"]

Curve = Mapping[int, float]
"""Figures by step."""

_SECONDS = ""
_MOST_POINTS = 200
"""Of a curve over seeds: neighbours of longer ones are averaged."""
_SMOOTHED_OVER = 20
"""A curve is averaged over one in so many of its points before it is asked how far it has come."""


def read_curves(table: Path, metrics: Sequence[str], readouts: Sequence[str]) -> dict[str, Curve]:
    """Return the curves of one run by metric, without figures that are not finite, and its seconds by the name "".

    Args:
        table: Its metrics.csv.
        metrics: As studies call them: of the readouts' mean, of an agent, or of the environment.
        readouts: The agents that the mean is over.

    Raises:
        RunError: The table cannot be read.
    """
    agents = {*readouts, *(agent for agent, _ in map(split_metric, metrics) if agent is not None)}
    found: dict[str, dict[int, float]] = {}
    for step, (kind, name, metric, value) in read_figures(table):
        if not math.isfinite(value):
            continue
        if kind == "env" or (kind == "run" and metric == "seconds"):
            found.setdefault(metric if kind == "env" else _SECONDS, {})[step] = value
        elif kind == "agent" and name in agents:
            found.setdefault(f"{name}.{metric}", {})[step] = value
            if metric == "accuracy":
                found.setdefault(f"{name}.error", {})[step] = 1 - value
    for metric in metrics:
        of_readouts = [found.get(f"{name}.{metric}", {}) for name in readouts]
        means = {step: mean_of([one.get(step) for one in of_readouts]) for step in set().union(*of_readouts)}
        shared = {step: value for step, value in means.items() if value is not None}
        found[metric] = shared or found.get(metric, {})
    return {name: found.get(name, {}) for name in (*metrics, _SECONDS)}


def over_seeds(curves: Sequence[Curve], seconds: Sequence[Curve]) -> dict[str, Any]:
    """Return the mean of curves over seeds, at least one, with the least and the most; points that one lacks are left out.

    Returns:
        `steps`, `seconds` (their mean; None where a seed has none), `mean`, `low` and `high`, a list each, and `n`:
        how many seeds. Of more than 200 points neighbours are averaged; their step is the last one's.
    """
    steps = sorted(set.intersection(*({*curve} for curve in curves)))
    timed = all(set(steps) <= set(times) for times in seconds)
    width = -(-len(steps) // _MOST_POINTS) or 1
    bins = [steps[at : at + width] for at in range(0, len(steps), width)]
    by_seed = [[statistics.fmean(curve[step] for step in bin_) for bin_ in bins] for curve in curves]
    across = list(zip(*by_seed, strict=True))
    return {
        "n": len(curves),
        "steps": [bin_[-1] for bin_ in bins],
        "seconds": [statistics.fmean(t[bin_[-1]] for t in seconds) for bin_ in bins] if timed else None,
        "mean": [statistics.fmean(values) for values in across],
        "low": [min(values) for values in across],
        "high": [max(values) for values in across],
    }


def smoothed(values: Sequence[float]) -> list[float | None]:
    """Return the mean of each point and those before it, over a twentieth of the curve; None where they are fewer."""
    span = -(-len(values) // _SMOOTHED_OVER)
    return [None] * (span - 1) + [
        statistics.fmean(values[at - span : at]) for at in range(span, len(values) + 1)
    ]


def steps_to_locked(curve: Mapping[str, Any], locked: Mapping[str, Any], metric: str) -> int | None:
    """Return the first step at which a curve has come as far as another does in the end, both smoothed; None: never."""
    goal = smoothed(locked["mean"])[-1]
    assert goal is not None
    good = operator.le if less_is_better(metric) else operator.ge
    points = zip(curve["steps"], smoothed(curve["mean"]), strict=True)
    return next((int(step) for step, value in points if value is not None and good(value, goal)), None)


def learning_curves(
    lines: Sequence[Mapping[str, Any]], metrics: Sequence[str], runs: Mapping[str, Mapping[str, Curve]]
) -> list[dict[str, Any]]:
    """Return the curves of a table's lines; `runs`: by name those that came to their end, each its curves by metric.

    Returns:
        For each metric and line that has a run: `metric`, `row`, `point`, `variant`, what `over_seeds` returns, and
        `steps_to_locked` (None: never, or there is no such line beside it).
    """
    found = []
    for metric in metrics:
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for line in lines:
            own = [runs[name] for name in line["runs"] if name in runs and runs[name][metric]]
            if own:
                curve = over_seeds([run[metric] for run in own], [run[_SECONDS] for run in own])
                head = {"metric": metric, **{key: line[key] for key in ("row", "point", "variant")}}
                groups.setdefault((line["row"], str(line["point"])), []).append(head | curve)
        for curves in groups.values():
            locked = next((curve for curve in curves if curve["variant"] == LOCKED), None)
            found += [
                curve | {"steps_to_locked": locked and steps_to_locked(curve, locked, metric)}
                for curve in curves
            ]
    return found


def write_curves(study: Mapping[str, Any], directory: Path) -> None:
    """Write curves.csv, a line for every point; RunError where it cannot be written."""
    rows = [["metric", "row", *study["axes"], "variant", "n", "step", "seconds", "mean", "low", "high"]]
    for curve in study["curves"]:
        place = [curve["row"], *(curve["point"].get(axis) for axis in study["axes"]), curve["variant"]]
        times: Iterable[float | None] = curve["seconds"] or [None] * len(curve["steps"])
        points = zip(curve["steps"], times, curve["mean"], curve["low"], curve["high"], strict=True)
        rows += ([curve["metric"], *place, curve["n"], *point] for point in points)
    write_csv(directory / "curves.csv", rows)
