"""Tied parameters: weights of several agents that are one weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from antiphon.base.extensions import name_of
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError, Path, show_value
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
    names = list(agents)
    for name in names:
        partner = names[1] if name == names[0] else names[0]
        tie = f"{agents[name]!r} is tied to {agents[partner]!r}"
        spec = relations.agents[name]
        if spec.share is not None:
            message = f"{tie}, but all parameters of the agent are shared (share: {spec.share}); leave out one of the two"
            yield DocumentError(("agents", name, "share"), message)
        for member in relations.learning[name]:
            objective = relations.agents[member].objective
            if objective is not None and objective.passes > 1:
                message = f"{tie}, and passes of {name_of(objective.kind)} after the first update one agent only; use epochs: 1, or a2c"
                yield DocumentError(("agents", member, "objective", "epochs"), message)
        clip = (spec.optimiser or relations.scenario.training.optimiser).clip
        if clip is not None and len({relations.learning[tied] for tied in names}) > 1:
            message = (
                f"{tie}, and a clip of {clip:g} applies to each agent's gradients separately, unless locked channels join the "
                "agents; leave out the clip"
            )
            yield DocumentError(("agents", name, "optimiser"), message)
    first, *rest = names
    for name in rest:
        tie = f"{agents[name]!r} is tied to {agents[first]!r}"
        for key, setting in _settings(relations, name).items():
            if setting != _settings(relations, first)[key]:
                message = f"differs from agent {first!r}, and {tie}; make them equal"
                yield DocumentError(("agents", name, key), message)
    yield from _learning_times(relations, agents)


def _settings(relations: Relations, name: str) -> dict[str, object]:
    spec = relations.agents[name]
    optimiser = spec.optimiser or relations.scenario.training.optimiser
    return {"optimiser": optimiser, "learn": spec.learn}


def _learning_times(relations: Relations, agents: Mapping[str, str]) -> Iterator[DocumentError]:
    if len({relations.locked[name] for name in agents}) == 1:
        return
    first, *rest = agents
    times = {name: relations.learns(name) for name in agents}
    for name in rest:
        tie = f"{agents[name]!r} is tied to {agents[first]!r}"
        if times[name] != times[first]:
            message = (
                f"agent {name!r} learns {_in_words(*times[name])}, agent {first!r} {_in_words(*times[first])}"
            )
            fix = "give them clocks and unrolls with the same windows, or lock them"
            yield DocumentError(("agents", name, "clock"), f"{message}, and {tie}; {fix}")
    for name in agents:
        delayed = relations.late.get(relations.learning[name][0], ())
        if any(
            relations.locked[channel.sender] is not relations.locked[channel.receiver] for channel in delayed
        ):
            tie = f"{agents[name]!r} is tied to parameters of agents with other windows"
            message = f"waits for delayed gradients, and {tie}; use another coupling, or leave out the tie"
            yield DocumentError(("agents", name), message)


def _in_words(window: int | str, first: int) -> str:
    return (
        "once per episode"
        if isinstance(window, str)
        else f"every {show_value(window)} steps from step {show_value(first + 1)} on"
    )
