"""Which scenarios' steps can be recorded: the period of their schedule, or why they cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterator

from antiphon.agents.objectives import OwnObjective
from antiphon.base.extensions import is_users
from antiphon.comms.predictors import ModuleModel
from antiphon.engine.heart.clock import StepWindows
from antiphon.engine.heart.system import System
from antiphon.engine.state.state_dict import stateful
from antiphon.nets.optimisers import Optimiser

LONGEST = 64
"""Steps of the longest period that is recorded."""
_OWN = "is your own, and may count its calls or depend on the step"
"""Why Python code that no replay runs is not recorded."""


def period_of(system: System) -> int:
    """Return the steps after which the schedule repeats: of all clocks, windows, episodes and examples."""
    lengths = [system.description.hold, system.description.episode_steps or 1]
    for group in system.groups:
        grid = group.grid
        lengths.append(grid.length if isinstance(grid, StepWindows) else 1)
        for name in group.agent_names:
            period = system.agents[name].clock.tick_period
            lengths.append(period * grid.max_ticks(period))
    return math.lcm(*lengths)


def obstacle_of(system: System) -> str | None:
    """Return why the steps of a system cannot be recorded, in a line; None: they can."""
    return next(_obstacles(system), None)


def _is_users(part: object) -> bool:
    return part is not None and is_users(type(part))


def _obstacles(system: System) -> Iterator[str]:
    env = system.description
    if system.schedule.episode_windows is not None or (env.episode_steps is None and not env.endless):
        yield "the lengths of its episodes differ"
    for group in system.groups:
        if not isinstance(group.grid, StepWindows):
            yield f"no number of steps is known after which windows of '{group.agent_names[0]}' repeat"
    if system.seed_count > 1:
        yield "several seeds are trained together"
    for name, agent in system.agents.items():
        if agent.acts:
            yield f"agent '{name}' acts in the environment"
        if agent.goal is not None and agent.goal.policy is not None:
            yield f"agent '{name}' learns from rewards"
        if agent.participation is not None:
            yield f"agent '{name}' learns from some of its windows only (learn)"
        if not agent.learner.network.pure:
            yield f"agent '{name}' is a Python module"
        objectives = [] if agent.goal is None else [term.objective for term in agent.goal.terms]
        if any(isinstance(each, OwnObjective) or _is_users(each) for each in objectives):
            yield f"the objective of agent '{name}' {_OWN}"
    for name, channel in system.channels.items():
        if _is_users(channel.coupling) or _is_users(channel.content.sampler):
            yield f"the coupling or sampling of channel {name} {_OWN}"
        if channel.wire.link.loses:
            yield f"channel {name} loses messages"
        models = channel.synthetic_gradient.model, channel.synthetic_input.model
        if any(isinstance(model, ModuleModel) or _is_users(model) for model in models):
            yield f"the predictor of channel {name} {_OWN}"
        model = channel.synthetic_gradient.model
        if model is not None and model.closed_form:
            yield f"channel {name}: its synthetic gradient is not solved anew at every step ({model.kind})"
        if model is not None and model.gated:
            yield f"channel {name}: its gate decides at every window whether its sender takes a step"
    learners, *predictors = (stateful(system)[key] for key in ("learners", "predictors", "inputs"))
    owners = [(f"agent '{name}'", learner) for name, learner in learners.items()]
    owners += [(f"channel {channel}", model) for models in predictors for channel, model in models.items()]
    for title, owner in owners:
        if not isinstance(owner.optimiser, Optimiser):
            yield f"{title} has an optimiser that is not antiphon's"
        elif not owner.optimiser.counts_steps and not owner.rate.constant:
            yield f"{title}: the learning rate of its SGD has a schedule"
    period = period_of(system)
    if period > LONGEST:
        yield f"its schedule repeats after {period:,} steps; at most {LONGEST} are recorded"
