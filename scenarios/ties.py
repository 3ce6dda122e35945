"""Tied parameters: weights of several agents that are one weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from antiphon.errors import suggest
from antiphon.problems import DocumentError, Path, show_value
from antiphon.scenarios.relations import Graph, episode_agents, learning_groups, learning_steps, locked_groups

__all__ = ["agent_and_parameter", "tie_problems", "tied_agents"]

Ties = Sequence[Sequence[str]]
"""Groups of parameters that are one weight, each as `AGENT.PARAMETER`."""


def agent_and_parameter(name: str) -> tuple[str, str]:
    """Return the two parts of `AGENT.PARAMETER`."""
    agent, _, parameter = name.partition(".")
    return agent, parameter


def tied_agents(ties: Ties) -> dict[str, tuple[str, ...]]:
    """Return by agent those that it is tied to, directly or through others, itself among them; others are left out."""
    found: dict[str, list[str]] = {}
    for group in ties:
        agents = dict.fromkeys(agent_and_parameter(name)[0] for name in group)
        for agent in agents:
            found.setdefault(agent, [agent])
        whole = max((found[agent] for agent in agents), key=len, default=[])
        for part in {id(found[agent]): found[agent] for agent in agents}.values():
            if part is not whole:  # whoever moves does so log2(agents) times
                whole.extend(part)
                found.update(dict.fromkeys(part, whole))
    return {agent: tuple(its) for agent, its in found.items()}


def tie_problems(scenario: Graph) -> Iterator[DocumentError]:
    """Check that ties name parameters of agents once each, and that these agents learn at the same steps and rates."""
    known: dict[str, int] = {}
    learning = _Learning(scenario)
    for index, group in enumerate(scenario.tied):
        if len(group) < 2:
            message = f"names {len(group)} parameters; name at least two, or leave it out"
            yield DocumentError(("tied", index), message)
        agents: dict[str, str] = {}
        for place, name in enumerate(group):
            path: Path = ("tied", index, place)
            agent, parameter = agent_and_parameter(name)
            if not parameter:
                yield DocumentError(
                    path, f"must be AGENT.PARAMETER such as 'part0.module.weight', not {name!r}"
                )
            elif agent not in scenario.agents:
                yield DocumentError(path, f"no agent {agent!r}{suggest(agent, scenario.agents)}")
            elif name in known:
                where = (
                    "twice" if known[name] == index else f"in tied[{known[name]}] too; make them one group"
                )
                yield DocumentError(path, f"names {name!r} {where}")
            else:
                known[name] = index
                agents.setdefault(agent, name)
        if len(agents) > 1:
            yield from _differences(scenario, agents, learning)


class _Learning:
    """When the agents of a scenario learn, and with which others."""

    def __init__(self, scenario: Graph) -> None:
        self._scenario = scenario

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The learning group of each agent."""
        found = learning_groups(self._scenario.agents, self._scenario.channels)
        return {name: group for group in found for name in group}

    @cached_property
    def locked(self) -> dict[str, tuple[str, ...]]:
        """The locked group of each agent."""
        found = locked_groups(self._scenario.agents, self._scenario.channels)
        return {name: group for group in found for name in group}

    @cached_property
    def whole(self) -> frozenset[str]:
        """The agents whose window is the episode."""
        return episode_agents(self._scenario.agents, self._scenario.channels)

    @cached_property
    def late(self) -> frozenset[str]:
        """The first agents of the locked groups that wait for delayed gradients."""
        return frozenset(
            self.locked[channel.sender][0]
            for channel in self._scenario.channels
            if channel.coupling == "delayed"
            and self.locked[channel.sender] is not self.locked[channel.receiver]
        )


def _differences(scenario: Graph, agents: Mapping[str, str], learning: _Learning) -> Iterator[DocumentError]:
    """What would let the parameters of tied agents come to differ; `agents`: by name, the parameter that is tied."""
    names = list(agents)
    for name in names:
        other = names[1] if name == names[0] else names[0]
        tie = f"{agents[name]!r} is tied to {agents[other]!r}"
        spec = scenario.agents[name]
        if spec.share is not None:
            message = f"{tie}, but all parameters of the agent are shared (share: {spec.share}); leave out one of the two"
            yield DocumentError(("agents", name, "share"), message)
        for member in learning.groups[name]:
            objective = scenario.agents[member].objective
            if objective is not None and objective.kind == "ppo" and objective.get("epochs") != 1:
                message = (
                    f"{tie}, and passes of ppo after the first move one agent alone; use epochs: 1, or a2c"
                )
                yield DocumentError(("agents", member, "objective", "epochs"), message)
        clip = (spec.optimiser or scenario.training.optimiser).clip
        if clip is not None:
            message = f"{tie}, and a clip of {clip:g} acts on the gradients of each agent on its own; leave out the clip"
            yield DocumentError(("agents", name, "optimiser"), message)
    first, *others = names
    for name in others:
        tie = f"{agents[name]!r} is tied to {agents[first]!r}"
        for key, own in _settings(scenario, name).items():
            if own != _settings(scenario, first)[key]:
                message = f"differs from that of agent {first!r}, and {tie}; make them equal"
                yield DocumentError(("agents", name, key), message)
    yield from _learning_times(scenario, agents, learning)


def _settings(scenario: Graph, name: str) -> dict[str, object]:
    spec = scenario.agents[name]
    optimiser = spec.optimiser or scenario.training.optimiser
    return {"optimiser": optimiser, "learn": spec.learn, "p_update": spec.p_update}


def _learning_times(
    scenario: Graph, agents: Mapping[str, str], learning: _Learning
) -> Iterator[DocumentError]:
    groups = learning.locked
    if len({groups[name] for name in agents}) == 1:
        return
    first, *others = agents
    times = {
        name: learning_steps(groups[name], scenario.agents, learning.whole, locked=len(groups[name]) > 1)
        for name in agents
    }
    for name in others:
        tie = f"{agents[name]!r} is tied to {agents[first]!r}"
        if times[name] != times[first]:
            message = (
                f"agent {name!r} learns {_in_words(*times[name])}, agent {first!r} {_in_words(*times[first])}"
            )
            fix = "give them clocks and unrolls with the same windows, or lock them"
            yield DocumentError(("agents", name, "clock"), f"{message}, and {tie}; {fix}")
    for name in agents:
        if groups[name][0] in learning.late:
            tie = f"{agents[name]!r} is tied to parameters of agents with other windows"
            message = f"waits for delayed gradients, and {tie}; use another coupling, or leave out the tie"
            yield DocumentError(("agents", name), message)


def _in_words(window: int | str, first: int) -> str:
    return (
        "once an episode"
        if isinstance(window, str)
        else f"every {show_value(window)} steps from step {show_value(first)} on"
    )
