"""Steps to a target, measured: a scenario is trained from several seeds and scored on the test split as it goes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from antiphon.engine.inference.evaluation import Evaluation
from antiphon.engine.planning.rivals.stashed_weights import StashedWeights
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.scenarios import Scenario
from antiphon.scenarios.training import less_is_better

__all__ = ["Measured", "SeedScore", "Target", "measure_steps", "target_of", "until"]

_GROWTH = 1.05
"""From one score to the next: what is found is at most a twentieth too late."""
_PERCENT = 95.0


@dataclass(frozen=True)
class Target:
    """A score of the readouts on the test split that is to be reached."""

    metric: str
    value: float
    """In the metric's own unit: of accuracy, a share of 1."""

    def reached(self, score: float) -> bool:
        """Whether a score is as good."""
        return score <= self.value if less_is_better(self.metric) else score >= self.value

    def better(self, one: float, other: float) -> float:
        """Return the better of two scores; NaN counts as none."""
        if math.isnan(one) or math.isnan(other):
            return other if math.isnan(one) else one
        return min(one, other) if less_is_better(self.metric) else max(one, other)

    def score(self, evaluation: Evaluation) -> float:
        """Return the mean over the readouts."""
        return statistics.fmean(evaluation.agents[name][self.metric] for name in evaluation.readout)

    def in_words(self, value: float) -> str:
        """Format a score; NaN: there was none."""
        if math.isnan(value):
            return "none"
        return f"{100 * value:.4g} %" if self.metric == "accuracy" else f"{value:.4g}"

    def __str__(self) -> str:
        return f"{self.metric} {self.in_words(self.value)}"


@dataclass(frozen=True)
class SeedScore:
    """How one seed went."""

    reached: float | None
    """The steps after which the target was reached; None: it was not."""
    best: float
    """The best score."""
    last: float
    """The steps that were taken."""
    error: str | None = None
    """Why it ended early, where it diverged."""


@dataclass(frozen=True)
class Measured:
    """Steps to a target over seeds."""

    seeds: tuple[SeedScore, ...]
    """Up to the first that has not reached it."""

    @property
    def mean(self) -> float | None:
        """The mean over seeds; None: a seed has not reached the target."""
        found = [score.reached for score in self.seeds if score.reached is not None]
        return statistics.fmean(found) if len(found) == len(self.seeds) else None

    def failure(self, target: Target) -> str:
        """Return how near the last seed came, which has not reached the target."""
        last = self.seeds[-1]
        return f"target not reached, best {target.in_words(last.best)}" + (
            f": {last.error}" if last.error else ""
        )


def target_of(scenario: Scenario, simulation: Simulation, value: float | None) -> Target:
    """Return the target of a scenario's readouts: of accuracy in percent, 95 unless given.

    Raises:
        ScenarioError: The readouts have several metrics, or no value is given of one without a default, or it cannot be.
    """
    goals = simulation.system.goals()
    metrics = {
        "return" if goals[name].policy is not None else goals[name].objective.metric
        for name in scenario.readouts
        if name in goals
    }
    if len(metrics) != 1:
        found = ", ".join(sorted(metrics)) or "none"
        raise ScenarioError(
            f"target: the readouts have no one metric ({found}); name a readout in the scenario"
        )
    (metric,) = metrics
    if metric != "accuracy":
        if value is None:
            raise ScenarioError(f"target: the readouts measure {metric}; give its value with --target")
        return Target(metric, value)
    percent = _PERCENT if value is None else value
    if not 1 < percent <= 100:
        raise ScenarioError(f"target: {percent:g}; accuracy is in percent, for example 95")
    return Target(metric, percent / 100)


def until(
    target: Target, advance: Callable[[int], float], evaluate: Callable[[], Evaluation], limit: float
) -> SeedScore:
    """Train until a target is reached, and score at intervals that grow with what was taken.

    Args:
        target: The target.
        advance: Trains to a number of steps, and returns how many were taken.
        evaluate: Scores on the test split.
        limit: Steps at most.
    """
    taken, best = 0.0, math.nan
    try:
        while taken < limit:
            taken = advance(min(math.ceil(limit), max(int(taken) + 1, math.ceil(_GROWTH * taken))))
            score = target.score(evaluate())
            best = target.better(best, score)
            if target.reached(score):
                return SeedScore(taken, best, taken)
    except DivergenceError as error:
        return SeedScore(None, best, taken, str(error))
    return SeedScore(None, best, taken)


def measure_steps(
    scenario: Scenario,
    target: Target,
    seeds: Sequence[int],
    limit: float,
    *,
    staleness: Mapping[str, Sequence[int]] | None = None,
    window: int = 1,
) -> Measured:
    """Train a scenario from each seed until the target is reached; the first seed that misses it is the last.

    Args:
        scenario: Under a learning rule.
        target: The target.
        seeds: One run each.
        limit: Steps of a run at most.
        staleness: As of `StashedWeights`, which trains then; None: the scenario as it is.
        window: Of the scenario; with staleness, scores are taken at the ends of windows.

    Raises:
        ScenarioError: The scenario cannot be built.
        DataError: Its data are missing or broken.
    """
    found = []
    for seed in seeds:
        with closing(Simulation(scenario, seed=seed, stacked=staleness is None)) as simulation:
            step: Callable[[], object] = simulation.step
            length = 1
            if staleness is not None:
                step, length = StashedWeights(simulation, staleness, window).step, window
            found.append(
                until(target, partial(_advance, simulation, step, length), simulation.evaluate, limit)
            )
        if found[-1].reached is None:
            break
    return Measured(tuple(found))


def _advance(simulation: Simulation, step: Callable[[], object], window: int, goal: int) -> float:
    """Take steps to the first end of a window at or after a goal, and return how many have been taken."""
    while simulation.now < goal or simulation.now % window:
        step()
    return float(simulation.now)
