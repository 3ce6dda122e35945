"""Scenarios in Ray Tune, whose schedulers and search algorithms choose values of parameters; needs `antiphon[tune]`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from antiphon.base.argument_checks import check_counts
from antiphon.base.errors import DivergenceError, RunError
from antiphon.base.spec import in_python
from antiphon.engine.state.hyperparameters import differences_of
from antiphon.jobs.populations.selection import metric_of, score_of
from antiphon.running.library import as_template
from antiphon.running.python_template import Buildable
from antiphon.running.request import Request
from antiphon.running.simulation import Simulation
from antiphon.scenarios import Template
from antiphon.scenarios.training import less_is_better


def trainable(
    scenario: Buildable | Template | str | Path,
    *,
    every: int,
    by: str | None = None,
    values: Mapping[str, Any] | None = None,
    variant: str | None = None,
    steps: int | None = None,
    device: str = "cpu",
) -> type[Any]:
    """Return a class of trials of a scenario, a `ray.tune.Trainable`.

    A trial's config has values of the scenario's parameters, and may have a `seed`. An iteration takes `every` steps, and
    reports the metric under its name, and `steps`; one that has diverged reports the worst value, an infinity. The trial is
    done after the scenario's training steps, or where its run ends early (`training.evaluate.patience`). A trial that continues
    from another's checkpoint keeps its own values; they may differ in hyperparameters alone.

    Args:
        scenario: A scenario's template, library name or file; or a function that returns a scenario, called with parameters by
            name.
        every: Steps of an iteration.
        by: The metric (see `select.by` of populations); None: the metric of the readouts' objective.
        values: Values of other parameters, for all trials.
        variant: A variant of the scenario.
        steps: Training steps; None: the scenario's.
        device: The device of all trials.

    Raises:
        ScenarioError: There is no such scenario, or a number of steps is not one.
        RunError: Ray Tune is not installed.
    """
    check_counts("trainable", needed=True, every=every)
    check_counts("trainable", steps=steps)
    try:
        tune = importlib.import_module("ray.tune")
    except ImportError:
        raise RunError("tune: Ray Tune is not installed; pip install 'antiphon[tune]'") from None
    template = as_template(scenario)
    request = Request(template=template, variant=variant, values=values or {}, steps=steps, device=device)
    return type(template.name, (_Trial, tune.Trainable), {"request": request, "every": every, "by": by})


class _Trial:
    """The methods of `ray.tune.Trainable`."""

    request: ClassVar[Request]
    every: ClassVar[int]
    by: ClassVar[str | None]
    simulation: Simulation

    def setup(self, config: Mapping[str, Any]) -> None:
        """Build the simulation of a config, at step 0."""
        settings: dict[str, Any] = in_python(config)
        seed, values = settings.pop("seed", 0), {**self.request.values, **settings}
        self._own = replace(self.request, values=values, seed=seed)
        self.simulation = Simulation(self._own.scenario, seed=seed, device=self._own.device)
        self._steps = 0

    def step(self) -> dict[str, Any]:
        """Take the steps of an iteration, and return its result."""
        until = self._own.scenario.training.steps
        self._steps = min(self._steps + self.every, until)
        with suppress(DivergenceError):  # noted in the simulation
            self.simulation.run(self._steps - self.simulation.now, progress=False)
        ended = self.simulation.stop_reason is not None
        if ended:
            self._steps = self.simulation.now
        metric = metric_of(self.simulation.running) if self.by is None else self.by
        score = score_of(self.simulation.running, metric).value
        if score is None:
            score = math.inf if less_is_better(metric) else -math.inf
        return {metric: score, "steps": self._steps, "done": ended or self._steps >= until}

    def save_checkpoint(self, folder: str) -> None:
        """Write the simulation."""
        self.simulation.save(Path(folder) / "simulation")

    def load_checkpoint(self, folder: str) -> None:
        """Continue from a simulation, this trial's or another's, with this trial's values."""
        scenario, device = self._own.scenario, self._own.device
        saved = Simulation.load(Path(folder) / "simulation", self._own.given_scenario, device=device)
        changes = differences_of(saved.scenario, scenario.model_copy(update={"env": saved.scenario.env}))
        if changes:
            saved.running.set(changes, "continues from a checkpoint with the values of its trial")
        self.cleanup()
        self.simulation, self._steps = saved, saved.now

    def reset_config(self, config: Mapping[str, Any]) -> bool:
        """Begin another trial in this process."""
        self.cleanup()
        self.setup(config)
        return True

    def cleanup(self) -> None:
        """Close the simulation."""
        self.simulation.close()
