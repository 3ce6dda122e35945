"""Tied parameters: weights of several agents that are one weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from antiphon.base.errors import suggest
from antiphon.base.problems import DocumentError
from antiphon.scenarios.relations import Relations, joined

Ties = Sequence[Sequence[str]]
"""Groups of parameters that are one weight, each as `AGENT.PARAMETER`."""


def agent_and_parameter(name: str) -> tuple[str, str]:
    agent, _, parameter = name.partition(".")
    return agent, parameter


def tied_agents(ties: Ties) -> dict[str, tuple[str, ...]]:
    """Return by agent those that it is tied to, directly or through others, itself among them; others are left out."""
    groups = [[agent_and_parameter(name)[0] for name in group] for group in ties]
    agents = dict.fromkeys(agent for group in groups for agent in group)
    pairs = [(group[0], agent) for group in groups for agent in group]
    return {agent: group for group in joined(agents, pairs) for agent in group}


def rule_27c_ties(relations: Relations) -> Iterator[DocumentError]:
    """Ties name parameters of agents once each, and these agents learn at the same steps and rates."""
    named: set[str] = set()
    for index, group in enumerate(relations.scenario.share):
        for position, name in enumerate(group):
            agent, parameter = agent_and_parameter(name)
            problem = None
            if not parameter:
                problem = f"must be AGENT.PARAMETER such as 'part0.module.weight', not {name!r}"
            elif agent not in relations.agents:
                problem = f"no agent {agent!r}{suggest(agent, relations.agents)}"
            elif name in named:
                problem = f"{name!r} is in two places; name it once"
            if problem is not None:
                yield DocumentError(("share", index, position), problem)
                return
            named.add(name)
        agents = tuple(dict.fromkeys(agent_and_parameter(name)[0] for name in group))
        if len(agents) > 1:
            yield from _differences(relations, agents)


def _differences(relations: Relations, agents: Sequence[str]) -> Iterator[DocumentError]:
    """What would let the parameters of tied agents come to differ."""
    first, joint = agents[0], len({relations.learning[name] for name in agents}) == 1

    def settings(name: str) -> tuple[object, ...]:
        agent = relations.agents[name]
        return agent.optimiser or relations.scenario.training.optimiser, agent.learn, relations.learns(name)

    for name in agents:
        group, agent = relations.learning[name], relations.agents[name]
        goals = [relations.agents[member].objective for member in group]
        optimiser = agent.optimiser or relations.scenario.training.optimiser
        waits = any(
            relations.locked[end.sender] is not relations.locked[end.receiver]
            for end in relations.late.get(group[0], ())
        )
        if (
            settings(name) != settings(first)
            or agent.share is not None
            or any(goal is not None and goal.passes > 1 for goal in goals)
            or (not joint and (waits or optimiser.clip is not None))
        ):
            line = f"has parameters tied to those of {first!r}: such agents need the same optimiser, `learn` and steps of learning, and"
            yield DocumentError(
                ("agents", name), f"{line} no `share`, clip, further epochs or delayed channels; make them so"
            )
