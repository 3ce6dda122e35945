"""Scenarios in Ray Tune, whose schedulers and search algorithms choose values of parameters; needs `antiphon[tune]`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from antiphon.base.errors import DivergenceError
from antiphon.base.problems import check_counts
from antiphon.jobs.populations.selection import metric_of, score_of
from antiphon.jobs.sources import scenario_template
from antiphon.running.simulation import Simulation
from antiphon.running.templates import Buildable, Request
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
) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that Ray Tune calls with a trial's config: values of the scenario's parameters, and perhaps a `seed`.

    Every `every` steps it reports the metric `by` (see `select.by` of populations; None: that of the readouts' objective) and
    `steps`; a trial that has diverged reports the worst value, an infinity, and ends. All trials have the other arguments.

    Raises:
        ScenarioError: There is no such scenario, or a number of steps is not one.
    """
    check_counts("trainable", needed=True, every=every)
    check_counts("trainable", steps=steps)
    tune = import_module("ray.tune")
    template = scenario_template(scenario)

    def train(config: Mapping[str, Any]) -> None:
        own = dict(config)
        seed, given = own.pop("seed", 0), {**(values or {}), **own}
        request = Request(template=template, variant=variant, values=given, steps=steps, seed=seed)
        with Simulation(request.scenario, seed=request.seed, device=device) as simulation:
            metric = metric_of(simulation.running) if by is None else by
            while simulation.diverged is simulation.stop_reason is None and (
                left := simulation.until - simulation.now
            ):
                with suppress(DivergenceError):  # noted in the simulation
                    simulation.run(min(every, left), progress=False)
                score = score_of(simulation.running, metric).value
                worst = math.inf if less_is_better(metric) else -math.inf
                tune.report({metric: worst if score is None else score, "steps": simulation.now})

    return train
