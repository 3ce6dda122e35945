"""The section of learning curves: means over seeds in a band of one standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.channels.explanations import EXPLANATIONS
from antiphon.telemetry.report.chart import Line, legend, lines
from antiphon.telemetry.report.html import METRICS, Html, element, figure, section
from antiphon.telemetry.report.run import ALIGNMENT, Curve, Group, ReportRun

__all__ = ["learning"]

_ACROSS = "environment steps"
_MOST = 16
"""Groups with lines in a chart."""
_ENV = 6
"""Most charts of the environment's figures."""


def learning(groups: Sequence[Group]) -> Html:
    """Return the charts, a block per scenario."""
    blocks: list[Html | None] = []
    scenarios = dict.fromkeys(group.scenario for group in groups)
    for scenario in scenarios:
        own = [group for group in groups if group.scenario == scenario]
        found = _block(own)
        if found and len(scenarios) > 1:
            blocks.append(element("h3", scenario))
        blocks += found
    several = any(len(group.runs) > 1 for group in groups)
    says = "Scores and losses are means since the row before, on the examples that were being learned from."
    if several:
        says += " A line is the mean over the seeds of a group, its band one standard error to either side."
    if not blocks:
        blocks.append(element("p", "No run has a curve: metrics.csv holds no scores.", class_="empty"))
    return section("curves", "Learning curves", says, *blocks)


class _Chart(NamedTuple):
    """One chart."""

    title: str
    says: str
    caution: str
    curves: list[Line]


def _block(groups: Sequence[Group]) -> list[Html | None]:
    """Return the legend and the charts of one scenario; scores first, then learning signals."""
    chosen = groups[:_MOST]
    scores, signals = list(_scores(chosen)), list(_signals(chosen))
    if not scores and not signals:
        return []
    several = len(groups) > 1
    more = f"The first {_MOST} of {len(groups)} groups are drawn." if len(groups) > _MOST else None
    return [
        legend((group.name, place) for place, group in enumerate(chosen)) if several else None,
        element("p", more, class_="says") if more else None,
        _figures([*scores, *signals]),
        *_cautions(signals),
    ]


def _figures(charts: Sequence[_Chart]) -> Html | None:
    figures = [
        figure(lines(chart.curves, across=_ACROSS, title=chart.title), chart.title, chart.says)
        for chart in charts
    ]
    return element("div", *figures, class_="charts") if figures else None


def _cautions(charts: Sequence[_Chart]) -> list[Html]:
    """Return the cautions, each once for all charts that share it."""
    found: dict[str, list[str]] = {}
    for chart in charts:
        if chart.caution:
            found.setdefault(chart.caution, []).append(chart.title)
    return [
        element("p", f"{', '.join(titles)}: {caution}", class_="caution") for caution, titles in found.items()
    ]


def _scores(groups: Sequence[Group]) -> Iterator[_Chart]:
    """Yield the charts of the readouts' metrics and losses, and of the environment's figures."""
    runs = [run for group in groups for run in group.runs]
    readouts, counts = {name for run in runs for name in run.readouts}, {len(run.readouts) for run in runs}
    who = f"mean of {counts.pop()} readouts" if len(counts) == 1 else "mean of the readouts"
    if len(readouts) == 1:
        (who,) = readouts
    for metric in (*METRICS, "loss"):
        curves = _over(groups, _of_readouts, metric)
        if curves:
            yield _Chart(f"{metric} in training ({who})", EXPLANATIONS["agent"][metric].says, "", curves)
    metrics = dict.fromkeys(metric for group in groups for run in group.runs for metric in run.table.env)
    for metric in list(metrics)[:_ENV]:
        curves = _over(groups, lambda run, metric: run.table.env.get(metric, {}), metric)
        if curves:
            yield _Chart(metric.replace("_", " "), "What the environment says of progress.", "", curves)


def _signals(groups: Sequence[Group]) -> Iterator[_Chart]:
    """Yield the charts of how well synthetic gradients fit, means over channels."""
    for metric in ALIGNMENT:
        curves = _over(groups, lambda run, metric: run.table.channels.get(metric, {}), metric)
        if curves:
            info = EXPLANATIONS["channel"][metric]
            yield _Chart(info.title, f"Mean over channels. {info.says}", info.caution, curves)


def _of_readouts(run: ReportRun, metric: str) -> Curve:
    """Return the mean over the readouts, at every step at which one has the figure."""
    found: dict[int, list[float]] = {}
    for name in run.readouts:
        for step, value in run.table.agents.get((name, metric), {}).items():
            found.setdefault(step, []).append(value)
    return {step: sum(values) / len(values) for step, values in found.items()}


def _over(groups: Sequence[Group], curve: Callable[[ReportRun, str], Curve], metric: str) -> list[Line]:
    """Return a line per group with a finite figure: the mean over its runs, step by step, and their standard error."""
    found = []
    for place, group in enumerate(groups):
        runs = [curve(run, metric) for run in group.runs]
        steps = sorted(set().union(*runs))
        values = np.array([[run.get(step, np.nan) for run in runs] for step in steps])
        if not np.isfinite(values).any():
            continue
        middle, error = _mean_and_error(values)
        banded = len(runs) > 1
        low, high = (middle - error, middle + error) if banded else (None, None)
        found.append(Line(group.name, place, np.array(steps, dtype=np.float64), middle, low, high))
    return found


def _mean_and_error(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard error over the second axis, of finite values; nan without any, or for one alone."""
    found = np.isfinite(values)
    count = found.sum(1)
    kept = np.where(found, values, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = kept.sum(1) / count
        squares = np.where(found, (values - mean[:, None]) ** 2, 0.0).sum(1)
        error = np.sqrt(squares / (count - 1) / count)
    return mean, np.where(count > 1, error, np.nan)
