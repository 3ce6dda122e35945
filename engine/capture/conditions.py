"""Which scenarios' steps can be recorded: the period of their schedule, or why they are taken one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from antiphon.base.extensions import is_users, name_of
from antiphon.base.kinds import KindSpec
from antiphon.engine.heart.system import System
from antiphon.engine.state.state_dict import stateful
from antiphon.nets.optimisers import Optimiser
from antiphon.scenarios import Scenario

LONGEST = 64
"""Steps of the longest period that is recorded."""
_BY_HOST = ("schedule", "recorder")
"""Extension points whose kinds the host calls for replayed steps too: they hinder no recording."""


def period_of(system: System) -> int:
    """Return the steps after which the schedule repeats: of all clocks, windows, episodes and examples."""
    lengths = [system.steps_per_example, system.description.episode_steps or 1]
    for group in system.groups:
        grid = group.grid
        lengths.append(grid.cycle_steps or 1)
        for name in group.agent_names:
            period = system.agents[name].clock.tick_period
            lengths.append(period * grid.max_ticks(period))
    return math.lcm(*lengths)


def obstacle_of(system: System, scenario: Scenario) -> str | None:
    """Return why the steps of a scenario are taken one by one, in a line; None: they can be recorded."""
    return next(_obstacles(system), None) or next(_own_kinds(scenario, ""), None)


def _own_kinds(value: object, place: str) -> Iterator[str]:
    """Yield a line for each kind of a user's own whose Python code is not run by a replay; it may count, or depend on the step."""
    if isinstance(value, KindSpec) and value.source and not value.built_in and value.point not in _BY_HOST:
        yield f"{place}: '{name_of(value.kind)}' is your own, and may count its calls or depend on the step"
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        value = {str(fields[name].validation_alias or name): each for name, each in value if name in fields}
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _own_kinds(each, f"{place}.{name}" if place else str(name))
    elif isinstance(value, tuple | list):
        for index, each in enumerate(value):
            yield from _own_kinds(each, f"{place}[{index}]")


def _obstacles(system: System) -> Iterator[str]:
    env = system.description
    if system.schedule.episode_windows is not None or (env.episode_steps is None and not env.endless):
        yield "the lengths of its episodes differ"
    for group in system.groups:
        if group.grid.cycle_steps is None:
            yield f"no number of steps is known after which windows of '{group.agent_names[0]}' repeat"
    if system.seed_count > 1:
        yield "several seeds are trained together"
    for name, agent in system.agents.items():
        if agent.body.acts:
            yield f"agent '{name}' acts in the environment"
        if agent.goal is not None and agent.goal.policy is not None:
            yield f"agent '{name}' learns from rewards"
        if agent.participation is not None:
            yield f"agent '{name}' learns from some of its windows only (learn)"
        if not agent.learner.network.pure:
            yield f"agent '{name}' is a Python module"
    for name, channel in system.channels.items():
        if is_users(type(channel.coupling)):
            yield f"channel {name}: its coupling '{channel.coupling.name}' is your own, whose credit may depend on the step"
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
