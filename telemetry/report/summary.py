"""The sections that say how runs ended: each by itself, and over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from antiphon.telemetry.report.html import Html, element, section, table
from antiphon.telemetry.report.numbers import METRICS, number, scored
from antiphon.telemetry.report.run import Group, ReportRun

__all__ = ["Spread", "SpreadOf", "lede", "over_seeds", "summary"]


class Spread(Protocol):
    """What a figure is over seeds."""

    @property
    def mean(self) -> float:
        """Of all seeds."""

    @property
    def error(self) -> float | None:
        """Its standard error; None of one seed."""

    @property
    def median(self) -> float:
        """The value in the middle."""

    @property
    def iqm(self) -> float:
        """The interquartile mean."""

    @property
    def low(self) -> float | None:
        """Lower end of its 95 % interval; None of one seed."""

    @property
    def high(self) -> float | None:
        """Upper end."""


SpreadOf = Callable[[Sequence[float]], Spread]
"""Says what a figure is over seeds, of one value per seed."""

_FEWEST = 5
"""Seeds from which on the middle half is told."""


def lede(runs: Sequence[ReportRun], groups: Sequence[Group], spread: SpreadOf) -> str:
    """Return the report in a sentence or two: what was run, and how it ended."""
    scenarios = list(dict.fromkeys(run.scenario for run in runs))
    of = scenarios[0] if len(scenarios) == 1 else f"{len(scenarios)} scenarios"
    ended = sum(run.done for run in runs)
    count = f"{len(runs)} run{'s' * (len(runs) > 1)} of {of}"
    if len(groups) > 1:
        count += f" in {len(groups)} groups that differ in more than their seed"
    state = "" if ended == len(runs) else f"; {ended} came to the end"
    said = [f"{count}{state}."]
    if len(groups) == 1:
        metric = _first_metric(groups[0].runs)
        values = [run.scores[metric] for run in groups[0].runs if run.done and metric in run.scores]
        if metric and values:
            said.append(f"{_where(metric)}: {_mean(metric, spread(values))}.")
    return " ".join(said)


def summary(runs: Sequence[ReportRun]) -> Html:
    """Return the table of runs."""
    metrics = _metrics(runs)
    headings = ["run", "scenario", "variant", "seed", "steps", *map(_heading, metrics), "seconds", "exit"]
    rows = [
        [
            run.name,
            run.scenario,
            run.variant or "–",
            str(run.facts.get("seed", "–")),
            _steps(run),
            *(scored(metric, run.scores.get(metric)) for metric in metrics),
            number(run.facts.get("seconds")),
            _exit(run),
        ]
        for run in runs
    ]
    says = "Each run and how it ended."
    if any(metric in (*METRICS, "loss") for metric in metrics):
        says += (
            " Metrics are the readouts' means on the test split, on examples that were never learned from."
        )
    notes = [element("li", f"{run.name}: {note}") for run in runs for note in run.notes]
    return section(
        "summary",
        "Summary",
        says,
        table(headings, rows, numbers=range(3, len(headings) - 1)),
        element("ul", *notes, class_="notes") if notes else None,
    )


def over_seeds(groups: Sequence[Group], spread: SpreadOf) -> Html | None:
    """Return what the metrics are over seeds, a line per group and metric; None where every run stands alone."""
    if all(len(group.runs) == 1 for group in groups):
        return None
    rows = []
    for group in groups:
        done = [run for run in group.runs if run.done]
        for metric in _metrics(done):
            values = [run.scores[metric] for run in done if metric in run.scores]
            found = spread(values)
            told = len(values) >= _FEWEST
            interval = (
                "–" if found.low is None or found.high is None else _between(metric, found.low, found.high)
            )
            middle = [scored(metric, found.iqm), interval] if told else ["–", "–"]
            row = [
                group.name,
                metric.replace("_", " "),
                f"{len(values)} of {len(group.runs)}",
                _mean(metric, found),
            ]
            rows.append([*row, scored(metric, found.median), *middle])
    if not rows:
        return None
    headings = [
        "group",
        "metric",
        "seeds",
        "mean ± standard error",
        "median",
        "interquartile mean",
        "its 95 % interval",
    ]
    says = (
        "Runs that differ in their seed alone, together; those that came to their end count. "
        f"From {_FEWEST} seeds on the interquartile mean, of the middle half of the seeds, is told, "
        "with a bootstrap interval over seeds."
    )
    return section("seeds", "Over seeds", says, table(headings, rows, numbers=range(2, len(headings))))


def _metrics(runs: Sequence[ReportRun]) -> list[str]:
    """Return the metrics that any of the runs has: objectives' first, then the loss, then the environment's."""
    there = dict.fromkeys(metric for run in runs for metric in run.scores)
    known = [metric for metric in (*METRICS, "loss") if metric in there]
    return known + [metric for metric in there if metric not in known]


def _first_metric(runs: Sequence[ReportRun]) -> str | None:
    return next(iter(_metrics(runs)), None)


def _heading(metric: str) -> str:
    return metric.replace("_", " ")


def _where(metric: str) -> str:
    word = metric.replace("_", " ").capitalize()
    return f"{word} on the test split" if metric in (*METRICS, "loss") else word


def _mean(metric: str, found: Spread) -> str:
    if found.error is None:
        return scored(metric, found.mean)
    if metric == "accuracy":
        return f"{100 * found.mean:.2f} ± {100 * found.error:.2f} %"
    return f"{number(found.mean)} ± {number(found.error, 2)}"


def _between(metric: str, low: float, high: float) -> str:
    if metric == "accuracy":
        return f"{100 * low:.2f} – {100 * high:.2f} %"
    return f"{number(low)} – {number(high)}"


def _steps(run: ReportRun) -> str:
    done, asked = run.facts.get("step"), run.facts.get("steps")
    return _count(done) if run.done or done == asked else f"{_count(done)} of {_count(asked)}"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


def _exit(run: ReportRun) -> str:
    error = run.facts.get("error")
    ended = str(run.facts.get("exit", "–"))
    return f"{ended}: {error}" if error else ended
