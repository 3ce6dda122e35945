"""The check that an optimiser's groups have parameters: of an agent's or predictor's own, and of those that the training has for all."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from antiphon.base.errors import warn_of_scenario
from antiphon.base.problems import DocumentError, Path, show_path

if TYPE_CHECKING:
    from antiphon.engine.heart.system import System
    from antiphon.nets.trained_parameters import TrainedParameters
    from antiphon.scenarios.scenario import Scenario
    from antiphon.scenarios.training import OptimiserSpec


def check_optimiser_groups(scenario: Scenario, system: System) -> None:
    """Check that each group of each optimiser has parameters.

    A group of `training.optimiser` or `training.predictor` without any is warned of: what it is for may be in another variant.

    Raises:
        DocumentError: A group of an optimiser of one agent or predictor has none.
    """
    axes_by_place: dict[Path, set[int]] = defaultdict(set)
    specs: dict[Path, OptimiserSpec] = {}

    def add(trained: TrainedParameters | None, *places: tuple[Path, OptimiserSpec | None]) -> None:
        """Note the axes of what is trained, at the first place that has an optimiser."""
        if trained is None or not trained.trainable:
            return
        path, spec = next((path, spec) for path, spec in places if spec is not None)
        specs[path] = spec
        axes_by_place[path].update(p.dim() for p in trained.trainable)

    training = scenario.training
    of_agents = (("training", "optimiser"), training.optimiser)
    of_predictors = (("training", "predictor"), training.predictor)
    for name, agent in scenario.agents.items():
        add(system.agents[name].learner, (("agents", name, "optimiser"), agent.optimiser), of_agents)
    for spec in scenario.channels:
        channel = system.channels[spec.name]
        place, synthetic_input = ("channels", spec.name), None if spec.input is None else spec.input.optimiser
        own_gradient = ((*place, "gradient", "optimiser"), spec.gradient.optimiser)
        own_input = ((*place, "input", "optimiser"), synthetic_input)
        add(channel.synthetic_gradient.model, own_gradient, of_predictors, of_agents)
        add(channel.synthetic_input.model, own_input, of_predictors, of_agents)
    for path, optimiser in specs.items():
        for position, group in enumerate(optimiser.groups):
            if group.axes in axes_by_place[path]:
                continue
            known = ", ".join(map(str, sorted(axes_by_place[path])))
            line = f"no parameter has {group.axes} axes, those here have {known}; leave the group out"
            at = (*path, "groups", position, "axes")
            if path[0] != "training":
                raise DocumentError(at, line)
            warn_of_scenario(f"{show_path(at)}: {line}")
