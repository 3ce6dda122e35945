"""What autograd keeps of the agents for their backward passes, at most: in the joint order, and in the sweep order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import networkx as nx

from antiphon.engine.build.stacking import stacks_of
from antiphon.engine.features.sweep import obstacle
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.system import System
from antiphon.engine.planning.cost_model import CostModel

__all__ = ["KeptActivations", "kept_activations", "most_kept"]


@dataclass(frozen=True)
class KeptActivations:
    """Agents of whose networks autograd keeps as much, for the same reason so long."""

    agents: tuple[str, ...]
    each: int
    """Bytes that it keeps of one of them until its window has been differentiated."""
    obstacle: str | None
    """Why it is not differentiated as soon as it has ticked; None: with `training.advanced.sweep` it is."""


def kept_activations(
    system: System, stacks: Sequence[Sequence[Agent]], costs: CostModel
) -> tuple[KeptActivations, ...]:
    """Return what is kept of each agent, those with equal numbers in one; `stacks`: as of `stacks_of`."""
    reason_of = {name: reason for names, reason in _graphs(system, stacks) for name in names}
    grouped: dict[tuple[int, str | None], list[str]] = {}
    for name in system.agents:
        grouped.setdefault((_kept(system, name, costs), reason_of[name]), []).append(name)
    return tuple(KeptActivations(tuple(names), each, reason) for (each, reason), names in grouped.items())


def most_kept(system: System, costs: CostModel) -> int:
    """Return the bytes kept of all agents at most: with `training.advanced.sweep`, of the largest graph and of what has to wait."""
    if not system.sweep:
        return sum(_kept(system, name, costs) for name in system.agents)
    waiting = largest = 0
    for names, reason in _graphs(system, stacks_of(system)[0]):
        all_ticks = sum(_kept(system, name, costs) for name in names)
        last = 0 if reason is not None else sum(costs.network(system.agents[name]).saved for name in names)
        waiting += all_ticks - last  # the earlier ticks of a window wait for its last
        largest = max(largest, last)
    return waiting + largest


def _kept(system: System, name: str, costs: CostModel) -> int:
    agent = system.agents[name]
    return costs.network(agent).saved * system.group_of[name].windows.ticks(agent.clock)


def _graphs(
    system: System, stacks: Sequence[Sequence[Agent]]
) -> Iterator[tuple[Collection[str], str | None]]:
    """Yield the agents that have one graph, of a learning group and of those stacked with it, and why it has to wait."""
    joined: nx.Graph[str] = nx.Graph()
    for group in system.groups:
        nx.add_path(joined, group.members)
    for members in stacks:
        nx.add_path(joined, [agent.name for agent in members])
    for names in nx.connected_components(joined):
        groups = (group for group in system.groups if group.members[0] in names)
        reasons = (obstacle(system, group) for group in groups)
        yield names, next((reason for reason in reasons if reason is not None), None)
