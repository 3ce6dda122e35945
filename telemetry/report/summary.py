"""Sections of results: each run's, and those over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from antiphon.telemetry.report.html import METRICS, Html, element, interval, number, scored, section, table
from antiphon.telemetry.report.run import Group, ReportRun
from antiphon.telemetry.statistics import FEWEST, SeedStatistics, seed_statistics

__all__ = ["lede", "over_seeds", "summary"]

_ON_TEST = " on the test split"
_RETURN = "return"
_MOST = 4
"""Most groups with results in the first lines."""


def lede(runs: Sequence[ReportRun], groups: Sequence[Group]) -> str:
    """Return the summary of the report in a sentence or two."""
    scenarios = list(dict.fromkeys(run.scenario for run in runs))
    of = scenarios[0] if len(scenarios) == 1 else f"{len(scenarios)} scenarios"
    ended = sum(run.done for run in runs)
    count = "One run" if len(runs) == 1 else f"{len(runs)} runs"
    state = "" if ended == len(runs) else f"; {ended} came to the end"
    sentences = [f"{count} of {of}{state}."]
    if len(groups) <= _MOST:
        sentences += [line for group in groups if (line := _outcome(group, len(groups) > 1)) is not None]
    return " ".join(sentences)


def _outcome(group: Group, named: bool) -> str | None:
    """Return the first metric of a group in a sentence; None where there is none."""
    done = [run for run in group.runs if run.done]
    for metric in _metrics(done):
        values = [run.scores[metric] for run in done if metric in run.scores]
        where = _where(metric)
        seeds = f" ({len(values)} seeds)" if len(values) > 1 else ""
        head = f"{group.name}: {_heading(metric)}" if named else f"{_heading(metric).capitalize()}"
        return f"{head}{where} {_mean(metric, seed_statistics(values))}{seeds}."
    return None


def summary(runs: Sequence[ReportRun]) -> Html:
    """Return the table of runs."""
    metrics = _metrics(runs)
    headings = ["run", "scenario", "variant", "seed", "steps", *map(_heading, metrics), "seconds", "exit"]
    rows = [
        [
            run.name,
            run.scenario,
            run.variant,
            str(run.facts.get("seed", "–")),
            _steps(run),
            *(scored(metric, run.scores.get(metric)) for metric in metrics),
            number(run.facts.get("seconds")),
            _exit(run),
        ]
        for run in runs
    ]
    says = "Each run and how it ended."
    if any(_where(metric) == _ON_TEST for metric in metrics):
        says += (
            " Metrics are the readouts' means on the test split, on examples that were never learned from."
        )
    if _RETURN in metrics:
        says += " Returns are of whole episodes, with the most likely actions."
    notes = [element("li", f"{run.name}: {note}") for run in runs for note in run.notes]
    return section(
        "summary",
        "Summary",
        says,
        table(headings, rows, numbers=range(3, len(headings) - 1)),
        element("ul", *notes, class_="notes") if notes else None,
    )


def over_seeds(groups: Sequence[Group]) -> Html | None:
    """Return the table of metrics over seeds, a line per group and metric; None without several seeds."""
    if all(len(group.runs) == 1 for group in groups):
        return None
    several = any(sum(run.done for run in group.runs) >= FEWEST for group in groups)
    rows = []
    for group in groups:
        done = [run for run in group.runs if run.done]
        for metric in _metrics(done):
            values = [run.scores[metric] for run in done if metric in run.scores]
            found = seed_statistics(values)
            row = [group.name, _heading(metric), f"{len(values)} of {len(group.runs)}", _mean(metric, found)]
            row.append(scored(metric, found.median))
            rows.append([*row, *_middle(metric, found, len(values))] if several else row)
    if not rows:
        return None
    headings = ["group", "metric", "seeds", "mean ± standard error", "median"]
    headings += ["interquartile mean", "its 95 % interval"] if several else []
    says = "Runs that differ in their seed alone, together; those that came to their end count."
    if several:
        says += " The interquartile mean is of the middle half of the seeds; its interval is a bootstrap over seeds."
    return section("seeds", "Over seeds", says, table(headings, rows, numbers=range(2, len(headings))))


def _middle(metric: str, found: SeedStatistics, seeds: int) -> list[str]:
    """Return the interquartile mean and its interval; dashes for too few seeds."""
    if seeds < FEWEST or found.low is None or found.high is None:
        return ["–", "–"]
    return [scored(metric, found.iqm), _between(metric, found.low, found.high)]


def _metrics(runs: Sequence[ReportRun]) -> list[str]:
    """Return the metrics of any of the runs: objectives' first, then the loss, then the environment's."""
    there = dict.fromkeys(metric for run in runs for metric in run.scores)
    known = [metric for metric in (*METRICS, "loss") if metric in there]
    return known + [metric for metric in there if metric not in known]


def _where(metric: str) -> str:
    """Return where a metric was scored; nothing for the environment's."""
    return _ON_TEST if metric != _RETURN and metric in (*METRICS, "loss") else ""


def _heading(metric: str) -> str:
    return metric.replace("_", " ")


def _mean(metric: str, found: SeedStatistics) -> str:
    if found.error is None:
        return scored(metric, found.mean)
    if metric == "accuracy":
        return f"{100 * found.mean:.2f} ± {100 * found.error:.2f} %"
    return f"{number(found.mean)} ± {number(found.error, 2)}"


def _between(metric: str, low: float, high: float) -> str:
    if metric == "accuracy":
        return f"[{100 * low:.2f}, {100 * high:.2f}] %"
    return interval(low, high)


def _steps(run: ReportRun) -> str:
    done, wanted = run.facts.get("step"), run.facts.get("steps")
    return _count(done) if run.done or done == wanted else f"{_count(done)} of {_count(wanted)}"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


def _exit(run: ReportRun) -> str:
    error = run.facts.get("error")
    ended = str(run.facts.get("exit", "–"))
    return f"{ended}: {error}" if error else ended
