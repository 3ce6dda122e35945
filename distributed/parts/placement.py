"""Placements: which part computes each agent, what must stay in one part, and how far parts may be apart in time.

A channel whose ends are in different parts is cut. In lockstep a cut changes no bit (docs/semantics.md, 43), so that what is
computed at one step from two agents, without a message that was sent earlier, cannot be cut. A `system` is one as built, before
it is stacked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import networkx as nx

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.problems import DocumentError, Path
from antiphon.distributed.flop import agent_flop
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System
from antiphon.engine.live_system import LiveSystem
from antiphon.envs.registry import obstacle_to_copies
from antiphon.scenarios.channel_specs import LONGEST_DELAY
from antiphon.scenarios.scenario import Scenario

Placement = Mapping[str, int]

_DELAY = "give the channel `link: {delay: 1}`"


class Bond(NamedTuple):
    """Two agents that must be in one part: the place in the scenario of what joins them, why, and what would let them be apart."""

    agents: tuple[str, str]
    path: Path
    reason: str
    fix: str


# --- what cannot be cut ------------------------------------------------------------------------------------


def check_divisible(system: System, scenario: Scenario) -> None:
    for name, agent in system.agents.items():
        if agent.acts or agent.policy is not None:
            raise DocumentError(
                ("agents", name),
                "observations depend on what policies do, and every part has its own environment; run the scenario as one part",
            )
    obstacle = obstacle_to_copies(scenario.env)
    if obstacle is not None:
        raise DocumentError(("env",), f"{obstacle}, and every part has one; run the scenario as one part")


def bonds(system: System) -> Iterator[Bond]:
    """Yield what joins agents that must be in one part: channels that cannot be cut, and common parameters."""
    for channel in system.channels.values():
        if channel.sender == channel.receiver:
            continue
        refusal = _uncuttable(channel)
        if refusal is not None:
            key, reason, fix = refusal
            ends = channel.sender, channel.receiver
            yield Bond(ends, ("channels", channel.name, *filter(None, key.split("."))), reason, fix)
    for name, owner in system.learner_name_by_agent.items():
        if name != owner:
            yield Bond(
                (owner, name), ("agents", name, "share"), "shared parameters learn as one", "leave it out"
            )
    for index, tie in enumerate(system.tied_parameters):
        for (first, _), (second, _) in pairwise(tie):
            if first != second:
                yield Bond(
                    (first, second), ("share", index), "tied parameters are one weight", "leave it out"
                )


def _uncuttable(channel: Channel) -> tuple[str, str, str] | None:
    """Return the key of a message channel that keeps it from being cut, why, and the fix; None: it can be."""
    if channel.coupling.joins_endpoints:
        return (
            "coupling",
            f"{channel.coupling.name}: both ends learn as one",
            f"make it decoupled and {_DELAY}",
        )
    wire = channel.wire
    if wire.timetable.delay == 0:
        return "link.delay", "0: a message is read at the step at which it is sent", _DELAY
    if wire.returns_gradients and wire.timetable.return_delay == 0:
        return (
            "link.delay",
            "0 back: a gradient returns at the step at which it is computed",
            "make it 1 or more",
        )
    if (name := channel.synthetic_gradient.context.crossing) is not None:
        return "gradient.context", f"'{name}' is read from the receiver itself", "leave it out"
    return None


def units_of(system: System) -> list[tuple[str, ...]]:
    """Return the agents in sets that cannot be separated, single ones included, in canonical order."""
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(system.agents)
    graph.add_edges_from(bond.agents for bond in bonds(system))
    order = {name: position for position, name in enumerate(system.agents)}
    return [tuple(sorted(unit, key=order.__getitem__)) for unit in nx.connected_components(graph)]


def check_placement(system: System, placement: Placement) -> None:
    for name in placement:
        if name not in system.agents:
            raise ScenarioError(f"place: no agent '{name}'{suggest(name, system.agents)}")
    missing = [name for name in system.agents if name not in placement]
    if missing:
        listed = ", ".join(missing[:8]) + (", …" if len(missing) > 8 else "")
        raise ScenarioError(f"place: no part for {listed}; place every agent")
    numbers = sorted(set(placement.values()))
    if numbers != [*range(len(numbers))]:
        raise ScenarioError(f"place: the parts are {', '.join(map(str, numbers))}; number them from 0 on")
    for agents, path, reason, fix in bonds(system):
        if placement[agents[0]] != placement[agents[1]]:
            where = " and ".join(f"'{name}' is in part {placement[name]}" for name in agents)
            raise DocumentError(path, f"{reason}, but {where}; {fix}, or place both ends together")


# --- what a cut costs --------------------------------------------------------------------------------------


def cut_channels(system: System, placement: Placement) -> list[Channel]:
    return [c for c in system.channels.values() if placement[c.sender] != placement[c.receiver]]


def lookahead_of(system: System, placement: Placement) -> int:
    """Return the steps that parts may be apart: what a part does at a step is of no effect elsewhere for so many."""
    cut = cut_channels(system, placement)
    return min((_channel_lookahead(system, channel) for channel in cut), default=LONGEST_DELAY)


def _channel_lookahead(system: System, channel: Channel) -> int:
    """Return the steps for which nothing that one end of a channel does has an effect at the other."""
    always_returns = (  # a gradient for every message that is read, if a zero one
        system.description.endless
        and system.agents[channel.receiver].participation is None
        and not channel.wire.link.loses
        and not system.group_by_agent[channel.receiver].horizons
    )
    # that nothing comes back lets a window go on one step after its receiver's, whatever `back` is
    return channel.wire.timetable.lookahead if always_returns or not channel.coupling.waits else 1


# --- placements --------------------------------------------------------------------------------------------


def placement_for(running: LiveSystem, count: int | None, placement: Placement | None = None) -> Placement:
    """Return a checked placement: the given one, or one of `count` parts of about equal cost, with few channels cut."""
    if (name := running.backend.name) != "cohort":
        raise ScenarioError(f"parts: the {name} backend computes in one process; leave out backend")
    system, parts = running.system, count or 1
    if placement is not None:
        check_placement(system, placement)
        parts = max(placement.values()) + 1
        if count not in (None, parts):
            raise ScenarioError(f"parts: {count}, and the placement has {parts}; leave one of them out")
    if parts > 1:
        check_divisible(system, running.scenario)
    return _partition(system, parts) if placement is None else placement


def _partition(system: System, parts: int) -> dict[str, int]:
    """Return a placement on so many parts: of about equal cost, with few channels cut."""
    units = units_of(system)
    if parts > len(units):
        raise ScenarioError(f"parts: {parts}; {_too_many(system, len(units))}")
    unit_of = {name: number for number, unit in enumerate(units) for name in unit}
    flop = agent_flop(system)
    costs = [1.0 + sum(flop[name] for name in unit) for unit in units]
    graph: nx.Graph[int] = nx.empty_graph(len(units))
    graph.add_edges_from(
        (unit_of[channel.sender], unit_of[channel.receiver]) for channel in system.channels.values()
    )
    part_of_unit = divided(graph, costs, parts)
    first = list(dict.fromkeys(part_of_unit))  # the first agent is in part 0
    return {name: first.index(part_of_unit[unit_of[name]]) for name in system.agents}


def divided(graph: nx.Graph[int], costs: Sequence[float], parts: int) -> list[int]:
    """Return the part of each node: stretches of the nodes in their own order, or depth first where that cuts fewer edges."""
    orders = [*graph], [*nx.dfs_preorder_nodes(graph)]
    found = [_stretches(order, costs, parts) for order in orders]
    return min(found, key=lambda part: sum(part[one] != part[other] for one, other in graph.edges))


def _stretches(order: Sequence[int], costs: Sequence[float], parts: int) -> list[int]:
    mean = sum(costs) / parts
    part, load, number = [0] * len(costs), 0.0, 0
    for position, node in enumerate(order):
        full = load > 0 and load + costs[node] / 2 > mean
        if number < parts - 1 and (full or len(order) - position == parts - 1 - number):
            number, load = number + 1, 0.0
        part[node] = number
        load += costs[node]
    return part


def _too_many(system: System, units: int) -> str:
    """Return why a system has no more parts than it has units, and the fix."""
    if units == len(system.agents):
        return f"the number of agents is {units}; use at most {units}"
    bond = next(bonds(system))
    ends = " and ".join(f"'{name}'" for name in bond.agents)
    why = DocumentError(bond.path, bond.reason)
    return f"the agents cannot be separated into more than {units}: {ends} stay together ({why}); {bond.fix}"
