"""Callbacks: what follows the steps of a run. Progress, those of a user's; what writes a run directory is `directory_writer`.

Loads without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from antiphon.base.errors import ScenarioError
from antiphon.base.problems import show_value
from antiphon.base.progress import Progress
from antiphon.base.tools import by_key
from antiphon.scenarios.training import RETURN
from antiphon.telemetry.metrics import VALUE_TARGET

if TYPE_CHECKING:
    from antiphon.engine.inference.evaluation import Evaluation
    from antiphon.engine.live_system import LiveSystem


@dataclass(frozen=True)
class Outcome:
    """How the training of a run ended."""

    status: str
    """`done`, `stopped` (by a signal), `diverged`, `failed` (an exception, raised again afterwards) or `interrupted` (a
    KeyboardInterrupt, raised again too): what an interrupted run computed is right; it can be resumed."""
    exit_code: int = 0
    """0, 128 + the signal's number, 3 or 1."""
    error: str | None = None
    """What went wrong; None where it is done or stopped."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The object of result.json, where there is a run directory."""
    reason: str | None = None
    """Why it was done before its last step: `Simulation.stop`; None: it was not."""

    @property
    def signal(self) -> int:
        """The signal that stopped it; 0: none did."""
        return self.exit_code - 128 if self.exit_code > 128 else 0


class Callback:
    """What follows the steps of a run, taken by hand or by a training loop; a subclass overrides what it needs."""

    def start(self, running: LiveSystem) -> None:
        """Prepare, before the first step of a loop."""

    def next_step(self, running: LiveSystem) -> float:
        """Return how many steps have been taken when `step` reads the run's state or losses next; `inf`: never."""
        return math.inf

    def step(self, running: LiveSystem) -> None:
        """Follow a step."""

    def evaluated(self, running: LiveSystem, evaluation: Evaluation) -> None:
        """Follow an evaluation during the training, before `step`."""

    def end(self, running: LiveSystem, outcome: Outcome) -> None:
        """Finish a run that a loop has stepped; others may continue."""

    def close(self, failure: BaseException | None) -> None:
        """Finish a run that is closed; `failure`: what ended steps that were taken by hand, None: nothing did."""


class RunProgress(Callback):
    """Progress of runs (of several their mean step) on standard error, with the newest losses of the one that is stepped."""

    def __init__(self, until: int | None, start: int, runs: int = 1) -> None:
        self._progress, self._share = Progress("steps", until, start), 1 / runs

    def start(self, running: LiveSystem) -> None:
        self._progress.advance(0)

    def step(self, running: LiveSystem) -> None:
        self._progress.advance(self._share, lambda: " · ".join(filter(None, self._parts(running))))

    def end(self, running: LiveSystem, outcome: Outcome) -> None:
        self._progress.close()

    def _parts(self, running: LiveSystem) -> Iterator[str]:
        from antiphon.engine.metrics.step_metrics import (
            training_means,  # it loads torch, which help does not need
        )

        means = training_means(running)
        yield "" if running.epoch is None else f"epoch {running.epoch:.2f}"
        yield from _means(
            _of_policy(means[name]) if running.scenario.agents[name].needs_rewards else means[name]
            for name in running.scenario.readouts
            if name in means
        )


class UserCallbacks(Callback):
    """The callbacks of a user's, called with the simulation; `Simulation.run` says when, and what they may be."""

    def __init__(self, callbacks: Iterable[object], simulation: object) -> None:
        self._simulation = simulation
        self._on_step: list[Callable[..., object]] = []
        self._on_evaluate: list[Callable[..., object]] = []
        for callback in callbacks:
            events = {event: getattr(callback, event, None) for event in ("on_step", "on_evaluate")}
            if not any(events.values()):
                events["on_step"] = callback
            if not callable(events["on_step"] or events["on_evaluate"]):
                fix = "give functions, or objects with on_step or on_evaluate"
                raise ScenarioError(f"run: callbacks: {show_value(callback)}; {fix}")
            self._on_step += filter(None, [events["on_step"]])
            self._on_evaluate += filter(None, [events["on_evaluate"]])

    def next_step(self, running: LiveSystem) -> float:
        return running.now + 1 if self._on_step else math.inf

    def step(self, running: LiveSystem) -> None:
        for method in self._on_step:
            method(self._simulation)

    def evaluated(self, running: LiveSystem, evaluation: Evaluation) -> None:
        for method in self._on_evaluate:
            method(self._simulation, evaluation)
            running.executor.release(running)  # which nothing else may read at this step


def _of_policy(scores: Mapping[str, float]) -> dict[str, float]:
    """Return what says how far a policy is: its losses are near 0 from the first window to the last."""
    names = {RETURN: f"training {RETURN}", "entropy": "entropy"}
    return {name: scores[metric] for metric, name in names.items() if metric in scores}


def _means(scores: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return each metric of the readouts' scores, a mean over the readouts that have it: `loss 0.312`."""
    values_by_metric = by_key(pair for agent_scores in scores for pair in agent_scores.items())
    means = {
        metric: sum(values) / len(values)
        for metric, values in values_by_metric.items()
        if metric != VALUE_TARGET
    }
    return [f"{m} {mean:.1%}" if m == "accuracy" else f"{m} {mean:.4g}" for m, mean in means.items()]
