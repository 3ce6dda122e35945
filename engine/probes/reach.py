"""How far ahead a message's effects lie: the schedule alone says it, nothing is computed."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection

import networkx as nx

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System

__all__ = ["look_ahead"]

_FARTHEST = 256
"""Steps after which effects that go round a cycle are followed no further, whatever they have missed by then."""


def look_ahead(system: System, names: Collection[str], stamp: int) -> int:
    """Return how many steps after `stamp` the last loss lies that the messages of then can reach.

    All messages count as read for as long as they are the newest, and an episode of known length ends every path.
    Where channels form a cycle without such an end, effects never end: there, the steps until every objective
    that can be reached has been.

    Args:
        system: The agents, clocks and channels.
        names: The channels whose messages of `stamp` are followed.
        stamp: The step they are sent at.
    """
    sent = [system.channels[name] for name in names if system.channels[name].ledger.sender.due(stamp)]
    goals, cyclic = _goals(system, {channel.receiver for channel in sent})
    length = system.description.episode_steps
    end = None if length is None else stamp - stamp % length + length - 1
    if end is None and system.episode is not None:
        end = system.episode.end(system.episode.current)
    touched: dict[int, set[str]] = defaultdict(set)
    for channel in sent:
        _touch(touched, channel, stamp)
    last = stamp
    for step in itertools.count(stamp):
        for name in itertools.chain.from_iterable(system.schedule.calls(step)):
            if name in touched[step]:
                agent = system.agents[name]
                if agent.goal is not None and _counts(system, name, step):
                    last = step
                    goals.discard(name)
                for channel in agent.sends:
                    if channel.ledger.sender.due(step):
                        _touch(touched, channel, step)
        touched.pop(step, None)
        gone_round = cyclic and end is None and (not goals or step - stamp >= _FARTHEST)
        if not touched or step == end or gone_round:
            return last - stamp
    raise AssertionError


def _goals(system: System, starts: set[str]) -> tuple[set[str], bool]:
    """The agents with an objective that can be reached from some agents, and whether a cycle can be."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(system.agents)
    graph.add_edges_from((channel.sender, channel.receiver) for channel in system.channels.values())
    reached = starts.union(*(nx.descendants(graph, name) for name in starts))
    goals = {name for name in reached if system.agents[name].goal is not None}
    return goals, not nx.is_directed_acyclic_graph(graph.subgraph(reached))


def _counts(system: System, name: str, step: int) -> bool:
    """Whether an objective counts at a tick (an aligned agent's step is that of its message: any may)."""
    agent = system.agents[name]
    assert agent.goal is not None
    if (step + 1) % system.description.signals[agent.goal.target].every and agent.align is None:
        return False
    return not agent.goal.last_only or agent.align is not None or (step + 1) % system.hold == 0


def _touch(touched: dict[int, set[str]], channel: Channel, stamp: int) -> None:
    """Note the ticks at which a message is the newest that has come."""
    ledger = channel.ledger
    delay = ledger.link.delay
    tick = ledger.receiver.following(stamp + delay)
    while tick < ledger.sender.after(stamp) + delay:
        touched[tick].add(channel.receiver)
        tick = ledger.receiver.following(tick + 1)
