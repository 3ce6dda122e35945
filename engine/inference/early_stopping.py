"""Evaluation during the training (`training.evaluate`): when it is due, and the best values so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from antiphon.base.errors import with_count
from antiphon.scenarios.training import EvaluateSpec, less_is_better


@dataclass
class EarlyStopping:
    """The best values of the metrics by which a training keeps a checkpoint and ends.

    Attributes:
        at: Steps taken at the newest evaluation; None: there was none in this session.
        since: Evaluations since the best value, by metric.
    """

    spec: EvaluateSpec
    at: int | None = None
    best: dict[str, float] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)

    def due(self, steps: int) -> bool:
        """Whether an evaluation follows so many steps."""
        return steps % self.spec.period == 0

    def add(self, steps: int, score: Callable[[str], float]) -> None:
        """Add the scores of the newest evaluation; a value that is not a number is no better than any."""
        self.at = steps
        for metric in set(self.spec.judged_by.values()):
            value = score(metric)
            if _better(value, self.best.get(metric, math.nan), metric):
                self.best[metric], self.since[metric] = value, 0
            else:
                self.since[metric] = self.since.get(metric, 0) + 1

    def new_best(self, steps: int) -> dict[str, Any] | None:
        """Return step, metric and value where the evaluation after so many steps is the best by `keep_best`."""
        metric = self.spec.keep_best
        if metric is None or steps != self.at or self.since[metric]:
            return None
        return {"step": steps, "metric": metric, "value": self.best[metric]}

    @property
    def reason_to_stop(self) -> str | None:
        """Why the run ends early, in one line; None: it continues."""
        for metric, patience in self.spec.patience.items():
            if (since := self.since.get(metric, 0)) < patience:
                continue
            line = f"{self.spec.split} {metric} has not improved in {with_count(since, 'evaluation')}"
            if self.at is None or metric not in self.best:
                return line
            return f"{line} (best: {self.best[metric]:.4g} at step {self.at - since * self.spec.period:,})"
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the best values and the counts under `validation`."""
        return {"validation": {"best": dict(self.best), "since": dict(self.since)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the state of parts has none, and changes nothing."""
        if "validation" in state:
            saved = state["validation"]
            self.at, self.best, self.since = None, dict(saved["best"]), dict(saved["since"])


def _better(value: float, best: float, metric: str) -> bool:
    """Whether a value is better than the best one; NaN is no better than any, and any is better than it."""
    better = value < best if less_is_better(metric) else value > best
    return better or (math.isnan(best) and not math.isnan(value))
