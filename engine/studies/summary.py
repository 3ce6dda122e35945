"""What the runs of a study say: each line's mean with its interval, what it recovers, and which values it chose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from antiphon.engine.studies.plan import Candidate, Line, Plan
from antiphon.engine.studies.recovered import Estimate, contrast, mean, recovered
from antiphon.engine.studies.scoring import Scoring, figures
from antiphon.scenarios.study import PaperSpec

__all__ = ["DETACHED", "LOCKED", "Finished", "summary"]

LOCKED, DETACHED = "locked", "detached"
"""The variants whose recovered is 1 and 0 by definition."""


@dataclass(frozen=True)
class Finished:
    """A run that has ended.

    Attributes:
        result: Its result.
        scores: What it has been scored beside that, by `Scoring.name`.
    """

    result: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]]

    def score(self, scoring: Scoring) -> Mapping[str, float]:
        """Return its figures; none where it has not been scored so, or has diverged."""
        if self.result["exit"] != "done":
            return {}
        if not scoring.plain:
            return self.scores.get(scoring.name, {})
        return figures(self.result["readout"], self.result["agents"])


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
        return metric in ("accuracy", "error") and all(
            "accuracy" in run.score(self.line.scoring) for run in done
        )


def summary(plan: Plan, finished: Mapping[str, Finished]) -> list[dict[str, Any]]:
    """Return what each line of the table says.

    Args:
        plan: Of the study.
        finished: The runs that have ended, by name.

    Returns:
        In the table's order, plain data: `row`, `point`, `variant`, `runs` (their names), `tuned` (chosen values), `validation` (the mean
        that they were chosen by), `n`, `diverged`, `ours` (value, interval, sd), `paper`, `recovered`, `contrast`
        (locked - detached of its group, its standard error, whether it is resolved), `share` (whether the metric is
        a share of examples) and `seconds` (mean per run). What there is not is None.
    """
    metric = plan.spec.metric.removeprefix("train_")
    scored = [_scored(line, finished, metric) for line in plan.lines]
    groups: dict[tuple[str, str], dict[str, _Scored]] = {}
    for one in scored:
        groups.setdefault(one.line.group, {})[one.line.variant] = one
    return [_said(one, groups[one.line.group], metric) for one in scored]


def _scored(line: Line, finished: Mapping[str, Finished], metric: str) -> _Scored:
    """Choose among the candidates of a line: the fewest diverged, then the best on the validation split."""
    best: tuple[tuple[int, float], _Scored] | None = None
    for candidate in line.candidates:
        runs = {seed: finished[name] for seed, name in candidate.runs.items() if name in finished}
        scores = _by_seed(runs, line.scoring, metric)
        seen = Scoring("validation", line.scoring.links, line.scoring.drop)
        validation = list(_by_seed(runs, seen, metric).values())
        middle = sum(validation) / len(validation) if validation else None
        key = (len(scores), -math.inf if middle is None else _good(metric, middle))
        if best is None or key > best[0]:
            tuned = middle if candidate.values else None
            best = key, _Scored(line, candidate, runs, scores, tuned)
    assert best is not None
    return best[1]


def _by_seed(runs: Mapping[int, Finished], scoring: Scoring, metric: str) -> dict[int, float]:
    found = {seed: run.score(scoring).get(metric) for seed, run in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _good(metric: str, value: float) -> float:
    """Turn a figure so that more is better; a share of errors becomes the share of what is right."""
    return value if metric == "accuracy" else 1 - value


def _said(one: _Scored, group: Mapping[str, _Scored], metric: str) -> dict[str, Any]:
    line, share = one.line, one.is_share(metric)
    examples = one.examples if share else None
    good = {
        name: {seed: _good(metric, value) for seed, value in other.scores.items()}
        for name, other in group.items()
    }
    locked, detached = good.get(LOCKED, {}), good.get(DETACHED, {})
    gap = contrast(locked, detached, examples)
    regained = recovered(good[line.variant], locked, detached) if gap is not None and gap.resolved else None
    seconds = [run.result["seconds"] for run in one.runs.values()]
    return {
        "row": line.row,
        "point": dict(line.point),
        "variant": line.variant,
        "runs": list(one.candidate.runs.values()),
        "tuned": dict(one.candidate.values),
        "validation": one.validation,
        "n": len(one.scores),
        "diverged": sum(run.result["exit"] == "diverged" for run in one.runs.values()),
        "ours": _plain(mean(list(one.scores.values()), examples, share=share) if one.scores else None),
        "paper": None if line.paper is None else _paper(*line.paper),
        "recovered": _plain(regained),
        "contrast": None if gap is None else asdict(gap) | {"resolved": gap.resolved},
        "share": share,
        "seconds": sum(seconds) / len(seconds) if seconds else None,
    }


def _plain(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else asdict(estimate)


def _paper(value: float, paper: PaperSpec) -> dict[str, Any]:
    return {"value": value, "sure": paper.sure, "source": paper.source}
