"""Rows of a study's table: each line's mean with its interval, what it recovers, and the values chosen for it."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from antiphon.engine.studies.plan import Candidate, Line, Plan
from antiphon.engine.studies.scoring import Scoring, figures, mean_of
from antiphon.scenarios.training import less_is_better, split_metric
from antiphon.telemetry.statistics import (
    FEWEST,
    Estimate,
    bootstrap,
    contrast,
    interquartile_mean,
    mean,
    recovered,
)

__all__ = ["DETACHED", "LOCKED", "Finished", "summary"]

LOCKED, DETACHED = "locked", "detached"
"""The variants whose recovered is 1 and 0 by definition."""


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    result: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]]
    """What it has been scored beside its result, by `Scoring.name`."""

    def score(self, scoring: Scoring) -> Mapping[str, float]:
        """Return its figures; none where it was not scored that way, or has diverged."""
        if self.result["exit"] != "done":
            return {}
        env: Mapping[str, float | None] = self.result.get("env", {})
        if not scoring.plain:
            known = {name: value for name, value in env.items() if value is not None}
            return {**known, **self.scores.get(scoring.name, {})}
        return figures(self.result["readout"], self.result["agents"], env)


@dataclass(frozen=True)
class _Scored:
    """A line with the values that were chosen for it."""

    line: Line
    candidate: Candidate
    runs: Mapping[int, Finished]
    scores: Mapping[int, float]
    validation: float | None

    @property
    def examples(self) -> int | None:
        """In the split that was scored."""
        for run in self.runs.values():
            found = run.result if self.line.scoring.plain else run.score(self.line.scoring)
            if found.get("examples"):
                return int(found["examples"])
        return None

    def is_share(self, metric: str) -> bool:
        """Whether its figures are shares of examples: then they lie in [0, 1]."""
        done = [run for run in self.runs.values() if run.result["exit"] == "done"]
        agent, what = split_metric(metric)
        accuracy = "accuracy" if agent is None else f"{agent}.accuracy"
        return what in ("accuracy", "error") and all(accuracy in run.score(self.line.scoring) for run in done)


def summary(plan: Plan, finished: Mapping[str, Finished], metric: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of the table of a metric; None: the study's first.

    Returns:
        In the table's order, plain data: `row`, `point`, `variant`, `runs` (their names), `tuned` (chosen values),
        `validation` (the mean of the first metric that they were chosen by), `n`, `diverged`, `within` (how many keep
        to the bound), `ours` (value, interval, sd), `iqm` (interquartile mean, interval; of five seeds or more), `paper`, `recovered`, `contrast` (locked - detached of its group,
        its standard error, whether it is resolved), `share` (whether the metric is a share of examples) and `seconds`
        (mean per run). What there is not is None.
    """
    first = plan.metrics[0]
    wanted = metric or first
    name = wanted.removeprefix("train_")
    scored = [_scored(line, finished, first.removeprefix("train_"), name) for line in plan.lines]
    groups: dict[tuple[str, str], dict[str, _Scored]] = {}
    for one in scored:
        groups.setdefault(one.line.group, {})[one.line.variant] = one
    bound = plan.spec.bound_of(wanted)
    rows = [_row(one, groups[one.line.group], name, bound) for one in scored]
    return [row if wanted == first else row | {"paper": None} for row in rows]


def _scored(line: Line, finished: Mapping[str, Finished], first: str, metric: str) -> _Scored:
    """Choose among the candidates of a line: the fewest diverged, then the best on validation by the first metric."""
    on_validation = Scoring("validation", line.scoring.links, line.scoring.drop)
    found: list[tuple[tuple[int, float], _Scored]] = []
    for candidate in line.candidates:
        runs = {seed: finished[name] for seed, name in candidate.runs.items() if name in finished}
        done = len(_by_seed(runs, line.scoring, first))
        middle = mean_of(list(_by_seed(runs, on_validation, first).values()))
        tuned = middle if candidate.values else None
        scored = _Scored(line, candidate, runs, _by_seed(runs, line.scoring, metric), tuned)
        found.append(((done, -math.inf if middle is None else _good(first, middle)), scored))
    return max(found, key=operator.itemgetter(0))[1]


def _by_seed(runs: Mapping[int, Finished], scoring: Scoring, metric: str) -> dict[int, float]:
    found = {seed: run.score(scoring).get(metric) for seed, run in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _good(metric: str, value: float) -> float:
    """Turn a figure so that more is better; a share of errors becomes the share of what is right."""
    return 1 - value if less_is_better(metric) else value


def _row(one: _Scored, group: Mapping[str, _Scored], metric: str, bound: float | None) -> dict[str, Any]:
    line, share = one.line, one.is_share(metric)
    examples = one.examples if share else None
    good = {
        name: {seed: _good(metric, value) for seed, value in other.scores.items()}
        for name, other in group.items()
    }
    locked, detached = good.get(LOCKED, {}), good.get(DETACHED, {})
    gap = contrast(locked, detached, examples)
    regained = recovered(good[line.variant], locked, detached) if gap is not None and gap.resolved else None
    keeps = operator.le if less_is_better(metric) else operator.ge
    values = list(one.scores.values())
    paper = None
    if line.paper is not None:
        paper = {"value": line.paper[0], "sure": line.paper[1].sure, "source": line.paper[1].source}
    return {
        "row": line.row,
        "point": dict(line.point),
        "variant": line.variant,
        "runs": list(one.candidate.runs.values()),
        "tuned": dict(one.candidate.values),
        "validation": one.validation,
        "n": len(one.scores),
        "diverged": sum(run.result["exit"] == "diverged" for run in one.runs.values()),
        "within": None if bound is None else sum(keeps(value, bound) for value in values),
        "ours": _plain(mean(values, examples, share=share) if values else None),
        "iqm": _iqm(values),
        "paper": paper,
        "recovered": _plain(regained),
        "contrast": None if gap is None else asdict(gap) | {"resolved": gap.resolved},
        "share": share,
        "seconds": mean_of([run.result["seconds"] for run in one.runs.values()]),
    }


def _iqm(values: Sequence[float]) -> dict[str, float] | None:
    if len(values) < FEWEST:
        return None
    low, high = bootstrap([values])
    return {"value": interquartile_mean(values), "low": low, "high": high}


def _plain(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else asdict(estimate)
