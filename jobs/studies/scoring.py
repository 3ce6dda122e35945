"""Scores of a study's finished runs beside their results: other splits, other links (evaluations.json)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from antiphon.base.errors import suggest
from antiphon.base.files import read_json, write_json
from antiphon.running.directory import DirectoryLock
from antiphon.scenarios import Scenario
from antiphon.scenarios.training import metric_of_agents

_FILE = "evaluations.json"
"""In a run's folder: its scores of other splits and links."""


class Scoring(NamedTuple):
    """An evaluation of the composed system; by default that of result.json. Links are `perfect` or `as_run`."""

    split: str = "test"
    links: str = "perfect"

    @property
    def name(self) -> str:
        return self.split if self.links == "perfect" else f"{self.split}, {self.links}"


OF_RESULT = Scoring()


@dataclass(frozen=True)
class Finished:
    """The result of a run that has ended, and its scores by `Scoring.name`."""

    result: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, Any]]

    @property
    def known_metrics(self) -> dict[str, float | None]:
        """The metrics of result.json by name; None where the run has no number for it."""
        return metrics_of(self.result["readout"], self.result["agents"], self.result.get("env", {}))

    def metrics(self, scoring: Scoring) -> dict[str, float]:
        """Return the metrics of an evaluation; none of a run that has diverged or was not scored that way."""
        if self.result["exit"] != "done":
            return {}
        env: Mapping[str, float | None] = self.result.get("env", {})
        scored = {**env, **self.scores.get(scoring.name, {})}
        metrics = self.known_metrics if scoring == OF_RESULT else scored
        return {name: value for name, value in metrics.items() if value is not None}


def metrics_of(
    readouts: str | Sequence[str],
    agents: Mapping[str, Mapping[str, Any]],
    env: Mapping[str, float | None] = MappingProxyType({}),
) -> dict[str, float | None]:
    """Return the metrics that a study can tabulate, by name.

    Means over the readouts that have them (`accuracy`), those of every agent (`A.accuracy`), and those of the environment where the
    readouts have none of that name. The error of a classifier is 1 - accuracy.
    """
    names = [readouts] if isinstance(readouts, str) else readouts
    means = {
        metric: mean_of([agents[name][metric] for name in names if metric in agents[name]])
        for metric in dict.fromkeys(metric for name in names for metric in agents[name])
        if metric_of_agents(metric)
    }
    metrics_of_agents = {
        f"{name}.{metric}": value
        for name, metrics in agents.items()
        for metric, value in _with_error(metrics).items()
        if metric_of_agents(metric)
    }
    metrics_of_agents |= _with_error(means)
    return {
        **env,
        **{name: value for name, value in metrics_of_agents.items() if value is not None or name not in env},
    }


def unknown_metric_line(metric: str, metrics: Iterable[str]) -> str:
    return f"no agent and no environment has a metric {metric!r}{suggest(metric, metrics)}"


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of numbers; None where one is missing."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _with_error(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    if "accuracy" not in metrics:
        return dict(metrics)
    accuracy = metrics["accuracy"]
    return {"error": None if accuracy is None else 1 - accuracy, **metrics}


def kept_scores(path: Path, steps: int) -> dict[str, dict[str, Any]]:
    """Return the scores of a finished run by `Scoring.name`; none where there is no file, or it is of another step."""
    file = path / _FILE
    cached = read_json(file) if file.is_file() else {}
    return dict(cached["scores"]) if cached.get("steps") == steps else {}


def add_scores(
    path: Path, steps: int, scorings: Sequence[Scoring], scenario: Scenario | None = None
) -> dict[str, dict[str, Any]]:
    """Evaluate a finished run in every way that is wanted and not kept, and return all its scores; `scenario`: one with Python objects."""
    from antiphon.engine.inference.rollout import Links
    from antiphon.running.simulation import Simulation

    scores = kept_scores(path, steps)
    missing = [scoring for scoring in scorings if scoring.name not in scores]
    if not missing:
        return scores
    with DirectoryLock(path), Simulation.load(path, scenario) as simulation:
        for scoring in missing:
            evaluation = simulation.evaluate(scoring.split, Links(scoring.links))
            score = metrics_of(evaluation.readout, evaluation.agents)
            scores[scoring.name] = {
                name: value for name, value in score.items() if value is not None and math.isfinite(value)
            }
        write_json(path / _FILE, {"steps": steps, "scores": scores})
    return scores
