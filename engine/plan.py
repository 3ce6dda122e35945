"""The plan of a scenario: which agents are stacked, and why others are not. Nothing is run for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from antiphon.engine.backends import checked_backend
from antiphon.engine.build.builder import build_to_look
from antiphon.engine.build.stack_members import channel_stacks_of, channels_alone, stacks_of
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.system import System
from antiphon.envs.registry import describe
from antiphon.scenarios.scenario import Scenario


@dataclass(frozen=True)
class CohortPlan:
    """A cohort: agents that are stacked."""

    agents: tuple[str, ...]
    parameters: int
    """Parameters of each agent."""


@dataclass(frozen=True)
class Alone:
    """Agents, or channels for the sake of a predictor, that are not stacked for one reason."""

    agents: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class ScenarioPlan:
    """How a scenario will be run."""

    agents: int
    backend: str
    cohorts: tuple[CohortPlan, ...]
    """Stacked agents, in canonical order."""
    channel_stacks: tuple[tuple[str, ...], ...]
    """The channels of each stack."""
    alone: tuple[Alone, ...]
    """Agents that are not stacked, by reason."""
    waves: int
    """Waves in which the agents due at one step tick: those that read a message of the step after its sender."""
    device: str


def plan(
    scenario: Scenario,
    *,
    backend: str = "cohort",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    system: System | None = None,
) -> ScenarioPlan:
    """Return how a scenario will be run. Nothing large is made for it; without its `system` that is built.

    Raises:
        ScenarioError: It cannot be built; the line names the place.
    """
    env = describe(scenario.env)
    system = system or build_to_look(scenario, env, dtype)
    members, reasons = stacks_of(system)
    cohorts = [agents for agents in members if agents[0].name not in reasons]
    stack_of = {agent.name: i for i, agents in enumerate(members) for agent in agents}
    channel_stacks = [
        tuple(channel.name for channel in channels)
        for channels in channel_stacks_of(system, stack_of=stack_of, alone=reasons)
        if channels[0].sender not in reasons or channels[0].receiver not in reasons
    ]
    return ScenarioPlan(
        agents=len(system.agents),
        backend=checked_backend(backend),
        cohorts=tuple(_cohort(agents) for agents in cohorts),
        channel_stacks=tuple(channel_stacks),
        alone=_by_reason([*reasons.items(), *channels_alone(system).items()]),
        waves=len(scenario.relations.waves),
        device=str(torch.device(device)),
    )


def _by_reason(reasons: Iterable[tuple[str, str]]) -> tuple[Alone, ...]:
    """Return what is alone for one reason together, from names with their reasons."""
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in reasons:
        names_by_reason.setdefault(reason, []).append(name)
    return tuple(Alone(tuple(names), reason) for reason, names in names_by_reason.items())


def _cohort(members: Sequence[Agent]) -> CohortPlan:
    parameters = sum(p.numel() for p in members[0].learner.parameters.values())
    return CohortPlan(tuple(agent.name for agent in members), parameters)
