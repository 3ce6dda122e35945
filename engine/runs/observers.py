"""Observers of the run loop that write nothing: progress bar, callbacks, training scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from antiphon.engine.metrics.progress import Progress
from antiphon.engine.runs.run_loop import Observer, Outcome, RunLoop
from antiphon.errors import ScenarioError
from antiphon.problems import show_value

if TYPE_CHECKING:
    from antiphon.engine.base_simulation import BaseSimulation

__all__ = ["Callbacks", "OnStep", "ProgressBar", "Scores", "TrainingScores"]

Scores = dict[str, dict[str, float]]
"""Loss and metric by readout."""
OnStep = Callable[[int, Callable[[], Scores]], None]
"""Called after each step with the step reached and a function that returns the newest scores."""


class ProgressBar(Observer):
    """A progress bar on standard error, if that is a terminal; without `steps` its end is not known."""

    def __init__(self, steps: int | None) -> None:
        self._progress = Progress("steps", steps)

    def start(self, loop: RunLoop) -> None:
        self._progress.display()

    def step(self, loop: RunLoop) -> None:
        self._progress.advance()

    def reads_state_at(self, simulation: BaseSimulation) -> float:
        return math.inf

    def end(self, simulation: BaseSimulation, outcome: Outcome) -> None:
        self._progress.close()


_EVENTS = ("on_start", "on_step", "on_evaluate", "on_checkpoint", "on_end")


class Callbacks(Observer):
    """The callbacks of a run, called with its simulation; `Simulation.run` says when.

    Args:
        callbacks: Objects with methods of some of the events' names; or functions, which are called after each step.

    Raises:
        ScenarioError: One of them is neither.
    """

    def __init__(self, callbacks: Iterable[object]) -> None:
        self._methods: dict[str, list[Callable[..., object]]] = {event: [] for event in _EVENTS}
        for callback in callbacks:
            methods = {event: getattr(callback, event) for event in _EVENTS if hasattr(callback, event)}
            if isinstance(callback, type) or not (methods or callable(callback)):
                fix = f"give functions, or objects with any of {', '.join(_EVENTS)}"
                raise ScenarioError(f"run: callbacks: {show_value(callback)}; {fix}")
            for event, method in (methods or {"on_step": callback}).items():
                self._methods[event].append(method)

    def call(self, event: str, simulation: BaseSimulation, *about: object) -> None:
        """Call the methods of an event, in the order of the callbacks."""
        for method in self._methods[event]:
            method(simulation, *about)

    @property
    def each_step(self) -> bool:
        """Whether something is called after each step."""
        return bool(self._methods["on_step"])

    def start(self, loop: RunLoop) -> None:
        self.call("on_start", loop.running[0])

    def step(self, loop: RunLoop) -> None:
        self.call("on_step", loop.running[0])

    def reads_state_at(self, simulation: BaseSimulation) -> float:
        return simulation.now + 1 if self.each_step else math.inf


class TrainingScores(Observer):
    """Calls a function after each step, with the scores since the newest row of figures, or else of that row.

    They are the mean loss and metric of each readout on the training data. The metric of a policy is the return of the newest
    episodes that have finished, as evaluations have it.
    """

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def step(self, loop: RunLoop) -> None:
        """Call the function."""
        self._on_step(loop.running[0].now, lambda: _scores(loop.running))

    def reads_state_at(self, simulation: BaseSimulation) -> float:
        return math.inf


def _scores(simulations: Sequence[BaseSimulation]) -> Scores:
    """Return the means over the simulations, of readouts that all of them have."""
    rows = [one.train_means.row() | one.train_means.means() for one in simulations]
    scores: Scores = {}
    for name in simulations[0].scenario.readouts:
        own = [row[name] for row in rows if name in row]
        if len(own) == len(rows):
            scores[name] = {metric: sum(one[metric] for one in own) / len(own) for metric in own[0]}
            if scores[name].pop("return", None) is not None:
                scores[name] |= _episode_return(name, simulations)
    return scores


def _episode_return(agent: str, simulations: Sequence[BaseSimulation]) -> dict[str, float]:
    """The return of an agent's newest episodes, a mean over simulations; empty where none has finished one."""
    figures = [simulation.world.figures() for simulation in simulations]
    found = [own.get(f"episode_return.{agent}", own.get("episode_return")) for own in figures]
    known = [value for value in found if value is not None]
    return {"return": sum(known) / len(known)} if known else {}
