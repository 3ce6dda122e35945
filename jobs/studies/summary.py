"""Lines of a study's table as numbers: means over seeds with intervals, *recovered*, and the values chosen for each line."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from antiphon.comms.couplings import Detached, Locked
from antiphon.jobs.studies.plan import Line, StudyPlan
from antiphon.jobs.studies.scoring import OF_RESULT, Finished, Scoring, mean_of
from antiphon.scenarios.training import OF_AGENTS, quality
from antiphon.telemetry.intervals import mean, ratio

LOCKED, DETACHED = Locked.name, Detached.name
"""The variants whose recovered is 1 and 0 by definition."""
Runs = Mapping[str, Mapping[int, Finished]]
"""Finished runs by name and seed."""


@dataclass(frozen=True)
class _Chosen:
    """A line with the runs (`name`) that were chosen for it, by the score `validation`."""

    line: Line
    name: str
    runs: Mapping[int, Finished]
    validation: float | None

    def scores(self, metric: str) -> dict[int, float]:
        return _scores(self.runs, self.line.scoring, metric)


def metrics_of_study(plan: StudyPlan, runs: Runs) -> Sequence[str]:
    """Return the tabulated metrics: the study's, or the first one that readouts have (`accuracy` … `loss`)."""
    done = [run.metrics(OF_RESULT) for of_seeds in runs.values() for run in of_seeds.values()]
    return plan.spec.metric or [
        next((metric for metric in OF_AGENTS if any(metric in metrics for metrics in done)), "loss")
    ]


def summary(plan: StudyPlan, runs: Runs) -> list[dict[str, Any]]:
    """Return the lines of the table, all of a metric before those of the next one.

    Returns:
        Plain data, None where there is no such number: `metric`, `point`, `variant`, `runs` (their name), `tuned`
        (chosen values), `validation` (the mean of the first metric that they were chosen by), `n`, `values` (by seed), `diverged`, `mean`
        (value, interval, sd), `recovered` (value and interval; None where locked - detached is within three standard errors),
        `share` (whether the metric is a share of examples) and `seconds` (mean per run).
    """
    metrics = metrics_of_study(plan, runs)
    chosen = [_choose(line, runs, metrics[0]) for line in plan.lines]
    groups: dict[str, dict[str, _Chosen]] = {}  # of lines that differ in the variant alone, and are compared
    for choice in chosen:
        groups.setdefault(repr(choice.line.point), {})[choice.line.variant] = choice
    return [_row(choice, groups[repr(choice.line.point)], metric) for metric in metrics for choice in chosen]


def _choose(line: Line, runs: Runs, metric: str) -> _Chosen:
    """Choose among the candidates of a line: the fewest diverged, then the best on the validation split."""
    scoring = line.scoring._replace(split="validation")
    ranked: list[tuple[tuple[int, float], _Chosen]] = []
    for name, tuned in line.candidates.items():
        of_seeds = runs.get(name, {})
        score = mean_of([*_scores(of_seeds, scoring, metric).values()]) if tuned else None
        chosen = _Chosen(line, name, of_seeds, score)
        ranked.append(((len(chosen.scores(metric)), quality(score, metric)), chosen))
    return max(ranked, key=operator.itemgetter(0))[1]


def _scores(runs: Mapping[int, Finished], scoring: Scoring, metric: str) -> dict[int, float]:
    scores = {seed: run.metrics(scoring).get(metric) for seed, run in runs.items()}
    return {seed: value for seed, value in scores.items() if value is not None}


def _recovered(choice: _Chosen, group: Mapping[str, _Chosen], metric: str) -> dict[str, Any] | None:
    """Return (variant - detached) / (locked - detached) over the seeds that all three have; None where it is undefined."""
    if LOCKED not in group or DETACHED not in group:
        return None
    scores = [one.scores(metric) for one in (choice, group[LOCKED], group[DETACHED])]
    seeds = sorted(set.intersection(*map(set, scores)))
    if len(seeds) < 2:
        return None
    own, locked, detached = ([quality(of_one[seed], metric) for seed in seeds] for of_one in scores)
    gains, wholes = ([a - b for a, b in zip(of_one, detached, strict=True)] for of_one in (own, locked))
    share = ratio(gains, wholes)
    return None if share.value is None else asdict(share)


def _row(choice: _Chosen, group: Mapping[str, _Chosen], metric: str) -> dict[str, Any]:
    line, values = choice.line, [*choice.scores(metric).values()]
    results = [run.result for run in choice.runs.values()]
    accuracy = re.sub("error$", "accuracy", metric)  # the error of a classifier is a share of examples too
    return {
        "metric": metric,
        "point": dict(line.point),
        "variant": line.variant,
        "runs": choice.name,
        "tuned": dict(line.candidates[choice.name]),
        "validation": choice.validation,
        "n": len(values),
        "values": values,
        "diverged": sum(result["exit"] == "diverged" for result in results),
        "mean": asdict(mean(values)) if values else None,
        "recovered": _recovered(choice, group, metric),
        "share": accuracy.endswith("accuracy") and bool(choice.scores(accuracy)),
        "seconds": mean_of([result["seconds"] for result in results]),
    }
