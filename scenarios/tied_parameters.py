"""Tied parameters: weights of several agents that are one weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError, Path
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
    group_of: dict[str, int] = {}
    for index, group in enumerate(relations.scenario.share):
        if len(group) < 2:
            message = f"names {len(group)} parameters; name at least two, or leave it out"
            yield DocumentError(("share", index), message)
        agents: dict[str, str] = {}
        for position, name in enumerate(group):
            path: Path = ("share", index, position)
            agent, parameter = agent_and_parameter(name)
            if not parameter:
                yield DocumentError(
                    path, f"must be AGENT.PARAMETER such as 'part0.module.weight', not {name!r}"
                )
            elif agent not in relations.agents:
                yield DocumentError(path, f"no agent {agent!r}{suggest(agent, relations.agents)}")
            elif name in group_of:
                where = (
                    "twice; leave one out"
                    if group_of[name] == index
                    else f"in share[{group_of[name]}] too; make them one group"
                )
                yield DocumentError(path, f"names {name!r} {where}")
            else:
                group_of[name] = index
                agents.setdefault(agent, name)
        if len(agents) > 1:
            yield from _differences(relations, agents)


def _differences(relations: Relations, agents: Mapping[str, str]) -> Iterator[DocumentError]:
    """What would let the parameters of tied agents come to differ; `agents`: by name, the parameter that is tied."""
    training = relations.scenario.training
    first, second, *_ = agents
    groups = {relations.learning[name] for name in agents}
    for name, parameter in agents.items():
        partner = second if name == first else first
        tie, spec = f"{parameter!r} is tied to {agents[partner]!r}", relations.agents[name]
        if spec.share is not None:
            message = f"{tie}, but all parameters of the agent are shared; leave out one of the two"
            yield DocumentError(("agents", name, "share"), message)
        for member in relations.learning[name]:
            objective = relations.agents[member].objective
            if objective is not None and objective.passes > 1:
                message = f"{tie}, and further passes update one agent only; use epochs: 1, or a2c"
                yield DocumentError(("agents", member, "objective", "epochs"), message)
        optimiser = spec.optimiser or training.optimiser
        if optimiser.clip is not None and len(groups) > 1:
            message = f"{tie}, and a clip is of each agent's gradients, unless locked channels join the agents; leave it out"
            yield DocumentError(("agents", name, "optimiser"), message)
        delayed = relations.late.get(relations.learning[name][0], ())
        apart = any(relations.locked[end.sender] is not relations.locked[end.receiver] for end in delayed)
        if apart and len(groups) > 1:
            message = f"waits for delayed gradients, and {tie}; use another coupling, or leave out the tie"
            yield DocumentError(("agents", name), message)
        if name == first:
            continue
        different = f"differs from agent {first!r}, and {tie}; make them equal"
        if optimiser != (relations.agents[first].optimiser or training.optimiser):
            yield DocumentError(("agents", name, "optimiser"), different)
        if spec.learn != relations.agents[first].learn:
            yield DocumentError(("agents", name, "learn"), different)
        if relations.learns(name) != relations.learns(first):
            message = f"agent {name!r} learns at other steps than agent {first!r}, and {tie}; give them equal windows, or lock them"
            yield DocumentError(("agents", name, "clock"), message)
