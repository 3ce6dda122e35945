"""Lines of a study's table as numbers: means over seeds with intervals, *recovered*, and the values chosen for each line."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from antiphon.comms.couplings import Detached, Locked
from antiphon.jobs.studies.plan import Line, StudyPlan
from antiphon.jobs.studies.scoring import Finished, Scoring, mean_of
from antiphon.scenarios.training import OF_AGENTS, is_of_env, less_is_better, metric_of_agents
from antiphon.telemetry.intervals import (
    FEWEST,
    bootstrap,
    contrast,
    interquartile_mean,
    mean,
    recovered,
)

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

    def is_share(self, metric: str) -> bool:
        """Whether the metric is a share of examples: then it lies in [0, 1]."""
        accuracy = re.sub("error$", "accuracy", metric)
        metrics = [run.metrics(self.line.scoring) for run in self.runs.values()]
        return metric_of_agents(accuracy.rpartition(".")[2]) == "accuracy" and all(
            accuracy in of_run and (metric == accuracy or of_run.get(metric) == 1 - of_run[accuracy])
            for of_run in metrics
            if of_run
        )

    def examples(self, metric: str) -> int | None:
        """Return of how many examples a share is, of several readouts the fewest."""
        accuracy = re.sub("error$", "accuracy", metric)
        counts = (run.examples(self.line.scoring, accuracy) for run in self.runs.values())
        return next(filter(None, counts), None)


def metrics_of_study(plan: StudyPlan, runs: Runs) -> Sequence[str]:
    """Return the tabulated metrics: the study's, or the first one that readouts have (`accuracy` … `loss`)."""
    done = [run.metrics(Scoring()) for of_seeds in runs.values() for run in of_seeds.values()]
    return plan.spec.metric or [
        next((metric for metric in OF_AGENTS if any(metric in metrics for metrics in done)), "loss")
    ]


def summary(plan: StudyPlan, runs: Runs) -> list[dict[str, Any]]:
    """Return the lines of the table, all of a metric before those of the next one.

    Returns:
        Plain data, None where there is no such number: `metric`, `point`, `variant`, `runs` (their name), `tuned`
        (chosen values), `validation` (the mean of the first metric that they were chosen by), `n`, `values` (by seed), `diverged`, `mean`
        (value, interval, sd), `iqm` (value and interval; of five seeds or more), `recovered`, `contrast` (locked -
        detached of its group, its standard error or None, whether it is resolved), `share` (whether the metric is a share of
        examples), `of_env` (whether it is the environment's) and `seconds` (mean per run).
    """
    metrics = metrics_of_study(plan, runs)
    chosen = [_choose(line, runs, metrics[0]) for line in plan.lines]
    groups: dict[str, dict[str, _Chosen]] = {}
    for choice in chosen:
        groups.setdefault(choice.line.group, {})[choice.line.variant] = choice
    return [_row(choice, groups[choice.line.group], metric) for metric in metrics for choice in chosen]


def _choose(line: Line, runs: Runs, metric: str) -> _Chosen:
    """Choose among the candidates of a line: the fewest diverged, then the best on the validation split."""
    scoring = replace(line.scoring, split="validation")
    ranked: list[tuple[tuple[int, float], _Chosen]] = []
    for name, tuned in line.candidates.items():
        of_seeds = runs.get(name, {})
        score = mean_of([*_scores(of_seeds, scoring, metric).values()]) if tuned else None
        good = -math.inf if score is None else _good(metric, score)
        chosen = _Chosen(line, name, of_seeds, score)
        ranked.append(((len(chosen.scores(metric)), good), chosen))
    return max(ranked, key=operator.itemgetter(0))[1]


def _scores(runs: Mapping[int, Finished], scoring: Scoring, metric: str) -> dict[int, float]:
    scores = {seed: run.metrics(scoring).get(metric) for seed, run in runs.items()}
    return {seed: value for seed, value in scores.items() if value is not None}


def _good(metric: str, value: float) -> float:
    """Turn a metric so that more is better; a share of errors becomes the share of what is right."""
    return 1 - value if less_is_better(metric) else value


def _iqm(values: Sequence[float]) -> dict[str, float] | None:
    """The interquartile mean and its interval; None: of too few seeds."""
    if len(values) < FEWEST:
        return None
    low, high = bootstrap(values)
    return {"value": interquartile_mean(values), "low": low, "high": high}


def _row(choice: _Chosen, group: Mapping[str, _Chosen], metric: str) -> dict[str, Any]:
    line, share, scores = choice.line, choice.is_share(metric), choice.scores(metric)
    examples = choice.examples(metric) if share else None
    good = {
        name: {seed: _good(metric, value) for seed, value in choice_of_variant.scores(metric).items()}
        for name, choice_of_variant in group.items()
    }
    locked, detached = good.get(LOCKED, {}), good.get(DETACHED, {})
    gap = contrast(locked, detached, examples)
    regained = recovered(good[line.variant], locked, detached) if gap is not None and gap.resolved else None
    values = list(scores.values())
    results = [run.result for run in choice.runs.values()]
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
        "mean": asdict(mean(values, examples, share=share)) if values else None,
        "iqm": _iqm(values),
        "recovered": None if regained is None else asdict(regained),
        "contrast": None if gap is None else asdict(gap) | {"resolved": gap.resolved},
        "share": share,
        "of_env": is_of_env(metric)
        or any(result.get(metric) is None and metric in result.get("env", {}) for result in results),
        "seconds": mean_of([result["seconds"] for result in results]),
    }
