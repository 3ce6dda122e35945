"""Graph relations of agents: waves, locked groups, cycles, and what a learning signal reaches.

State channels connect no agents; locked ones only make an agent's window the episode. Loaded where a scenario is resolved, as
networkx is slow to import.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Literal, NamedTuple

import networkx as nx

from antiphon.scenarios.agent_specs import AGE, AgentSpec
from antiphon.scenarios.channel_specs import ChannelSpec

Arcs = Iterable[tuple[str, str]]
Window = int | Literal["episode"]
"""Steps from one learning to the next."""


class Ahead(NamedTuple):
    """What an agent's learning signal may come from."""

    targets: frozenset[str]
    """The targets of objectives."""
    windows: frozenset[Window]
    """The windows of agents."""


class Relations:
    """Relations of a scenario's agents and channels, each computed once."""

    def __init__(self, scenario: Any) -> None:
        self.scenario = scenario
        self.agents: Mapping[str, AgentSpec] = scenario.agents
        self.channels: Sequence[ChannelSpec] = scenario.channels

    @cached_property
    def inputs(self) -> dict[str, tuple[ChannelSpec, ...]]:
        """The message channels into each agent, in canonical order."""
        return self._messages("receiver")

    @cached_property
    def outputs(self) -> dict[str, tuple[ChannelSpec, ...]]:
        """The message channels out of each agent, in canonical order."""
        return self._messages("sender")

    def _messages(self, end: Literal["sender", "receiver"]) -> dict[str, tuple[ChannelSpec, ...]]:
        by_agent: dict[str, list[ChannelSpec]] = {agent: [] for agent in self.agents}
        for channel in sorted(self.channels, key=lambda channel: channel.order):
            if not channel.state:
                by_agent[getattr(channel, end)].append(channel)
        return {agent: tuple(its) for agent, its in by_agent.items()}

    @cached_property
    def states(self) -> dict[str, ChannelSpec]:
        return {channel.sender: channel for channel in self.channels if channel.state}

    @cached_property
    def waves(self) -> tuple[tuple[str, ...], ...]:
        """The order in which agents tick within a step: the topological levels of the message channels without delay, each
        sorted by name. Agents on or behind a cycle of these are left out.
        """
        waves: list[tuple[str, ...]] = []
        with suppress(nx.NetworkXUnfeasible):
            for level in nx.topological_generations(_graph(self.agents, undelayed(self.channels))):
                waves.append(tuple(sorted(level)))
        return tuple(waves)

    @cached_property
    def sampling(self) -> frozenset[str]:
        """The agents that send samples, which their policies learn."""
        return frozenset(channel.sender for channel in self.channels if channel.learned_by_policy)

    @cached_property
    def locked_groups(self) -> tuple[tuple[str, ...], ...]:
        """The agents partitioned into maximal sets joined by locked channels, singletons included."""
        return joined(self.agents, self._locked_pairs)

    @cached_property
    def learning_groups(self) -> tuple[tuple[str, ...], ...]:
        """The agents partitioned into maximal sets joined by locked channels or shared parameters, singletons included."""
        shared = [(agent.share, name) for name, agent in self.agents.items() if agent.share is not None]
        first = dict(reversed(shared))
        return joined(self.agents, [*((first[share], name) for share, name in shared), *self._locked_pairs])

    @property
    def _locked_pairs(self) -> list[tuple[str, str]]:
        return [(c.sender, c.receiver) for c in self.channels if c.coupling.joins_endpoints]

    @cached_property
    def locked(self) -> dict[str, tuple[str, ...]]:
        return {name: group for group in self.locked_groups for name in group}

    @cached_property
    def learning(self) -> dict[str, tuple[str, ...]]:
        return {name: group for group in self.learning_groups for name in group}

    @cached_property
    def rewarded(self) -> frozenset[str]:
        """The agents that learn from rewards, and those that learn as one with them."""
        policies = {name for name, agent in self.agents.items() if agent.needs_rewards}
        return frozenset(
            name for group in self.learning_groups if not policies.isdisjoint(group) for name in group
        )

    @cached_property
    def late(self) -> dict[str, list[ChannelSpec]]:
        """The delayed channels out of each learning group that has some, by its first agent."""
        delayed: dict[str, list[ChannelSpec]] = {}
        for channel in self.channels:
            if channel.coupling.waits:
                delayed.setdefault(self.learning[channel.sender][0], []).append(channel)
        return delayed

    def window(self, group: Iterable[str]) -> Window:
        """Return the window in steps of agents that learn as one: the least common multiple of their period x unroll, or any
        agent's episode, by its clock or a locked state.
        """
        steps = 1
        for name in group:
            clock, state = self.agents[name].clock, self.states.get(name)
            if clock.unroll == "episode" or (state is not None and state.coupling.joins_endpoints):
                return "episode"
            steps = math.lcm(steps, clock.period * clock.unroll)
        return steps

    @cached_property
    def windows(self) -> dict[str, Window]:
        """The window of each agent; a locked group has one window."""
        groups = self.locked_groups
        return {name: window for group in groups for window in [self.window(group)] for name in group}

    @cached_property
    def learns(self) -> dict[str, tuple[Window, int]]:
        """The period of each agent's updates in steps, and the step of the first (0: the episode's)."""
        times: dict[str, tuple[Window, int]] = {}
        for group in self.learning_groups:
            window, clock, first = self.window(group), self.agents[group[0]].clock, 0
            if window != "episode":
                joint = any(len(self.locked[name]) > 1 for name in group)  # at the end of each period
                first = window - (1 if joint else clock.period - clock.phase % clock.period)
            times |= dict.fromkeys(group, (window, first))
        return times

    # --- learning signals --------------------------------------------------------------------------------

    def gated(self, channel: ChannelSpec) -> bool:
        """Return whether a channel's synthetic gradient is applied only as far as it predicts (`gradient.gate`)."""
        gradient = channel.gradient
        if not (channel.coupling.predicts and gradient.apply):
            return False
        if gradient.gate == "auto":
            needs_one = gradient.direct and not gradient.closed_form and gradient.passes == "first"
            return needs_one and not channel.state and channel.receiver in self.rewarded
        return gradient.gate == "skill"

    def context(self, channel: ChannelSpec) -> tuple[str, ...]:
        """Return the signals that condition a channel's synthetic gradient: as given, or by default of its kind.

        By default they are the targets of all objectives that are reached over channels with credit, and what the sender of a
        message without sites observes.
        """
        gradient = channel.gradient
        if gradient.context is not None:
            return gradient.context
        if not gradient.closed_form:
            return ()
        sender = self.agents[channel.sender]
        on_maps = channel.size is None and sender.layers is not None and sender.layers.on_maps
        observed = () if channel.state or on_maps or isinstance(channel.size, tuple) else sender.observes
        names = (*sorted(self.ahead[channel.receiver].targets), *observed)
        return tuple(dict.fromkeys(name for name in names if name != AGE))

    @cached_property
    def ahead(self) -> dict[str, Ahead]:
        """What each agent's learning signal may come from: itself, and the agents reached from it over channels with credit."""
        arcs = [
            (c.sender, c.receiver)
            for c in self.channels
            if (c.credits_alone or c.credits_from_receiver) and c.name not in self.blocked
        ]
        cycles = nx.condensation(_graph(self.agents, arcs))
        found: dict[int, Ahead] = {}
        for cycle in reversed(list(nx.topological_sort(cycles))):
            members = cycles.nodes[cycle]["members"]
            goals = [goal for name in members for goal in self.agents[name].objectives.values()]
            targets = {goal.target for goal in goals if goal.target is not None}
            windows = {self.windows[name] for name in members}
            after = [found[following] for following in cycles.successors(cycle)]
            found[cycle] = Ahead(
                frozenset(targets.union(*(other.targets for other in after))),
                frozenset(windows.union(*(other.windows for other in after))),
            )
        return {name: found[cycle] for name, cycle in cycles.graph["mapping"].items()}

    @cached_property
    def blocked(self) -> frozenset[str]:
        """The names of locked channels whose delay is not shorter than the group's window: no gradient passes."""
        joining = ((c, self.windows[c.sender]) for c in self.channels if c.coupling.joins_endpoints)
        return frozenset(c.name for c, window in joining if window != "episode" and c.link.delay >= window)

    @cached_property
    def reached(self) -> frozenset[str]:
        """The agents whose parameters a learning signal reaches.

        In parameters predicted credit is weighed by `scale`, in what the sender returns by `discount`: so either may be reached
        without the other. Agents joined by locked channels learn as one.
        """
        goals = {name for name, agent in self.agents.items() if agent.objectives}
        channels = [channel for channel in self.channels if channel.name not in self.blocked]
        alone = [channel for channel in channels if channel.credits_alone]
        back = [channel for channel in channels if channel.credits_from_receiver]
        returning = reachable(
            goals | {channel.sender for channel in alone if _weighs(channel, channel.gradient.discount)},
            [(c.receiver, c.sender) for c in back if _weighs(c, c.gradient.discount)],
        )
        joining = [channel for channel in back if channel.coupling.joins_endpoints]
        returned = [c for c in back if c.receiver in returning and not c.coupling.joins_endpoints]
        taught = {c.sender for c in [*alone, *returned] if _weighs(c, c.gradient.scale)}
        return reachable(goals | taught, [(c.receiver, c.sender) for c in joining])

    @cached_property
    def learners(self) -> frozenset[str]:
        """The agents whose parameters change: they learn, a learning signal reaches them, and they have some to train."""
        return frozenset(
            name for name in self.reached if self.agents[name].learn and self.agents[name].trainable
        )


def _weighs(channel: ChannelSpec, weight: float) -> bool:
    """Whether the credit of a channel has a weight: where it is predicted, `scale` or `discount` (semantics 3)."""
    return not channel.coupling.predicts or weight > 0


def reachable(start: Iterable[str], arcs: Arcs) -> frozenset[str]:
    """Return the agents that are reached from `start` along pairs (from, to), these among them."""
    graph: nx.DiGraph[str] = nx.DiGraph(list(arcs))
    graph.add_edges_from(("", name) for name in start)  # no agent has this name
    return frozenset(nx.descendants(graph, "")) if "" in graph else frozenset()


def undelayed(channels: Iterable[ChannelSpec]) -> list[tuple[str, str]]:
    """Return the ends (from, to) of the message channels without delay, along which agents due at one step wait."""
    return [(c.sender, c.receiver) for c in channels if not c.state and c.link.delay == 0]


def cycle_among(agents: Collection[str], arcs: Arcs) -> tuple[str, ...]:
    """Return one cycle among agents each of which has a sender among them, from its first name on."""
    within = _graph(agents, sorted(arc for arc in arcs if {*arc} <= {*agents}))
    cycle = [sender for sender, _ in nx.find_cycle(within)]
    start = cycle.index(min(cycle))
    return (*cycle[start:], *cycle[:start])


def joined(agents: Collection[str], pairs: Arcs) -> tuple[tuple[str, ...], ...]:
    """Return the agents partitioned into maximal sets joined by pairs, singletons included."""
    sets = nx.utils.UnionFind(agents)
    for pair in pairs:
        sets.union(*pair)
    return tuple(sorted(tuple(sorted(members)) for members in sets.to_sets()))


def components(agents: Collection[str], arcs: Arcs) -> dict[str, int]:
    """Number the strongly connected components: two agents lie on a common cycle if their numbers agree."""
    strongly_connected = nx.strongly_connected_components(_graph(agents, arcs))
    return {agent: number for number, members in enumerate(strongly_connected) for agent in members}


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


def _graph(agents: Collection[str], arcs: Arcs) -> nx.DiGraph[str]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(agents)
    graph.add_edges_from(arcs)
    return graph
