"""Which agents of a scenario are stacked, and why others are not. Nothing is run for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from antiphon.engine.build.stack_members import channels_alone, stacks_of
from antiphon.engine.heart.system import System


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
class StackPlan:
    """What is computed together."""

    cohorts: tuple[CohortPlan, ...]
    """Stacked agents, in canonical order."""
    alone: tuple[Alone, ...]
    """Agents and channels that are not stacked, by reason."""


def plan(system: System) -> StackPlan:
    """Return what of a system, as built, is computed together."""
    members, reasons = stacks_of(system)
    cohorts = (
        CohortPlan(
            tuple(agent.name for agent in agents),
            sum(p.numel() for p in agents[0].learner.parameters.values()),
        )
        for agents in members
        if agents[0].name not in reasons
    )
    return StackPlan(tuple(cohorts), _by_reason([*reasons.items(), *channels_alone(system).items()]))


def _by_reason(reasons: Iterable[tuple[str, str]]) -> tuple[Alone, ...]:
    """Return what is alone for one reason together, from names with their reasons."""
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in reasons:
        names_by_reason.setdefault(reason, []).append(name)
    return tuple(Alone(tuple(names), reason) for reason, names in names_by_reason.items())
