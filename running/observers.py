"""Subclasses of `trainer.Observer` that write nothing: progress, callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from antiphon.base.errors import ScenarioError
from antiphon.base.problems import show_value
from antiphon.base.progress import Progress
from antiphon.base.tools import by_key
from antiphon.running.trainer import Observer, Outcome, Trainer
from antiphon.scenarios.training import RETURN
from antiphon.telemetry.metrics import VALUE_TARGET

if TYPE_CHECKING:
    from antiphon.engine.live_system import LiveSystem
    from antiphon.running.run import Run


class RunProgress(Observer):
    """Progress of a run on standard error (`Progress`), with the newest losses and scores.

    Args:
        until: The step it stops at; None: not known.
        start: The step it starts from.
        runs: How many runs there are, which may be stepped one after the other: their mean step is displayed.
    """

    def __init__(self, until: int | None, start: int, runs: int = 1) -> None:
        self.progress, self._runs = Progress("steps", until, start), runs

    def start(self, trainer: Trainer) -> None:
        self.progress.advance(0)

    def step(self, trainer: Trainer) -> None:
        share = len(trainer.runs) / self._runs
        self.progress.advance(share, lambda: " · ".join(_parts(trainer.active)))

    def reads_state_at(self, run: Run) -> float:
        return math.inf

    def end(self, run: Run, outcome: Outcome) -> None:
        self.progress.close()


_EVENTS = ("on_start", "on_step", "on_evaluate", "on_checkpoint", "on_end")


class Callbacks(Observer):
    """The callbacks of a run, called with its simulation; `Simulation.run` says when.

    Args:
        callbacks: Objects with methods of some of the events' names; or functions, which are called after each step.

    Raises:
        ScenarioError: One of them is neither.
    """

    def __init__(self, callbacks: Iterable[object], simulation: object) -> None:
        self._simulation = simulation
        self._methods: dict[str, list[Callable[..., object]]] = {event: [] for event in _EVENTS}
        for callback in callbacks if isinstance(callbacks, Iterable) else (callbacks,):
            methods = {event: getattr(callback, event) for event in _EVENTS if hasattr(callback, event)}
            if isinstance(callback, type) or not (methods or callable(callback)):
                fix = f"give functions, or objects with any of {', '.join(_EVENTS)}"
                raise ScenarioError(f"run: callbacks: {show_value(callback)}; {fix}")
            for event, method in (methods or {"on_step": callback}).items():
                self._methods[event].append(method)

    def call(self, event: str, *about: object) -> bool:
        for method in self._methods[event]:
            method(self._simulation, *about)
        return bool(self._methods[event])

    @property
    def each_step(self) -> bool:
        """Whether something is called after each step."""
        return bool(self._methods["on_step"])

    def start(self, trainer: Trainer) -> None:
        self.call("on_start")

    def step(self, trainer: Trainer) -> None:
        self.call("on_step")

    def reads_state_at(self, run: Run) -> float:
        return run.running.now + 1 if self.each_step else math.inf


def _parts(runs: Sequence[Run]) -> list[str]:
    first = runs[0].running
    epoch = "" if first.epoch is None else f"epoch {first.epoch:.2f}"
    training = {
        name: _of_policy(agent_scores) if first.scenario.agents[name].needs_rewards else agent_scores
        for name, agent_scores in training_scores([run.running for run in runs]).items()
    }
    parts = [epoch, _updates(first), *_means(training)]
    if (evaluation := runs[0].evaluated) is not None:
        scores = {name: evaluation.agents[name] for name in evaluation.readout if name in evaluation.agents}
        parts += [f"{evaluation.split} {mean}" for mean in _means(scores)]
    return [text for text in parts if text]


def _of_policy(scores: dict[str, float]) -> dict[str, float]:
    """Return what says how far a policy is: its losses are near 0 from the first window to the last."""
    names = {RETURN: f"training {RETURN}", "entropy": "entropy"}
    return {name: scores[metric] for metric, name in names.items() if metric in scores}


def _updates(running: LiveSystem) -> str:
    """Return the fewest and most updates of the agents that learn: `31 updates`, `1 update`."""
    if running.executor.reached >= running.now > 0:
        return ""  # the newest are counted elsewhere
    learners = [a.learner for a in running.backend.system.agents.values() if not a.learner.frozen]
    counts = {*chain.from_iterable(learner.counts() for learner in learners)}
    numbers = " to ".join(f"{n:,}" for n in sorted({min(counts), max(counts)})) if counts else ""
    return numbers and f"{numbers} update{'s' * (counts != {1})}"


def _means(scores: dict[str, dict[str, float]]) -> list[str]:
    """Return each metric of the readouts' scores, a mean over the readouts: `loss 0.312`."""
    means = mean_over_readouts(scores).items()
    return [f"{m} {mean:.1%}" if m == "accuracy" else f"{m} {mean:.4g}" for m, mean in means]


def mean_over_readouts(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return each metric of the readouts' scores, a mean over the readouts that have it."""
    values_by_metric = by_key(pair for agent_scores in scores.values() for pair in agent_scores.items())
    return {metric: sum(values) / len(values) for metric, values in values_by_metric.items()}


def training_scores(runs: Sequence[LiveSystem]) -> dict[str, dict[str, float]]:
    """Return loss and metric on the training data by readout, since the newest log entry, or else of that entry.

    They are means over the runs, of readouts that all of them have. A policy's `return` is that of finished episodes, as
    evaluations have it; what its values are trained towards is left out.
    """
    from antiphon.engine.metrics.step_metrics import (
        training_means,  # it loads torch, which help does not need
    )

    rows = [training_means(running) for running in runs]
    scores: dict[str, dict[str, float]] = {}
    for name in runs[0].scenario.readouts:
        agent_rows = [row[name] for row in rows if name in row]
        if len(agent_rows) == len(rows):
            metrics = [
                metric
                for metric in agent_rows[0]
                if metric != VALUE_TARGET and all(metric in row for row in agent_rows)
            ]
            scores[name] = {
                metric: sum(row[metric] for row in agent_rows) / len(agent_rows) for metric in metrics
            }
    return scores
