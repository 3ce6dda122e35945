"""Warnings of runs that are longer than their schedules, whose learning rates end at zero."""

from __future__ import annotations

from antiphon.engine.build.channels import rate_of
from antiphon.scenarios import Scenario
from antiphon.scenarios.scenario_warnings import Finding, about
from antiphon.scenarios.training import OptimiserSpec

_OF_RUN = "begin with a longer training.steps, or set '{}.schedule' to constant"


def ended_schedules(scenario: Scenario, until: int, fix: str = _OF_RUN) -> list[Finding]:
    """Return a line about the agents, and one about the channels, whose learning rate is 0 from `training.steps` on.

    Args:
        until: The steps of the run; none is warned of where they are not more than `training.steps`.
        fix: The end of each line; `{}` stands for all names of the kind.
    """
    line = f"learning rate 0 from step {scenario.training.steps:,} on, the end of its schedule: nothing more is learned; {fix}"
    kinds = {"*": "agent", "*->*": "channel"}
    return [
        finding
        for pattern, names in with_ended_schedules(scenario, until).items()
        for finding in about(kinds[pattern], names, line.format(pattern))
    ]


def with_ended_schedules(scenario: Scenario, until: int) -> dict[str, list[str]]:
    """Return the agents (`*`) and channels (`*->*`), where there are any, whose learning rate is 0 from `training.steps` to `until`."""
    training = scenario.training
    if until <= training.steps:
        return {}

    def ends(optimiser: OptimiserSpec) -> bool:
        return rate_of(1.0, optimiser.schedule, scenario).ends_at_zero(until)

    changed = scenario.relations.learners
    agents = [
        name
        for name, agent in scenario.agents.items()
        if name in changed and ends(agent.optimiser or training.optimiser)
    ]
    channels = [
        channel.name
        for channel in scenario.channels
        if channel.coupling.predicts and channel.gradient.learn and channel.gradient.apply
        if ends(channel.gradient.optimiser or training.predictor or training.optimiser)
    ]
    return {pattern: names for pattern, names in {"*": agents, "*->*": channels}.items() if names}
