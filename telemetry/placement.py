"""Layout of a graph: positions of its agents in the Channels tab."""

from __future__ import annotations

from functools import lru_cache

import networkx as nx
import numpy as np
from numpy.typing import NDArray

__all__ = ["Points", "communities", "place", "positions"]

Points = NDArray[np.float64]
"""(points, 2), or one point (2,): x to the right, y upwards."""

_SPRINGS = 450
"""Most agents for which springs are run; more are on a circle."""
_MOST = 1200
"""Most agents for which communities are found."""


def place(graph: nx.MultiDiGraph[str]) -> dict[str, Points]:
    """Return the centre of each agent: in columns from left to right where the graph has no cycle, else by springs.

    The result is deterministic, and no shared random state is used.

    Args:
        graph: Agents and channels; channels from an agent to itself are ignored.
    """
    return _placed(tuple(sorted(graph.nodes)), tuple(sorted((a, b) for a, b in set(graph.edges()) if a != b)))


def communities(graph: nx.MultiDiGraph[str]) -> dict[str, int]:
    """Return the number of each agent's community, counted in the order of the graph; empty for more than 1,200 agents.

    Of largest modularity as found by the Louvain method (Blondel et al., 2008), deterministic.

    Args:
        graph: Agents and channels; directions, and channels from an agent to itself, are ignored.
    """
    if len(graph) > _MOST:
        return {}
    groups = _communities(tuple(graph), tuple(sorted((a, b) for a, b in set(graph.edges()) if a != b)))
    numbers: dict[int, int] = {}
    return {name: numbers.setdefault(group, len(numbers)) for name, group in zip(graph, groups, strict=True)}


@lru_cache(maxsize=4)
def _communities(agents: tuple[str, ...], channels: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    """Return the community of each agent, cached for all seeds of a run."""
    plain: nx.Graph[str] = nx.Graph()
    plain.add_nodes_from(agents)
    plain.add_edges_from(channels)
    found = nx.community.louvain_communities(plain, seed=0)
    group = {name: number for number, names in enumerate(found) for name in names}
    return tuple(group[name] for name in agents)


@lru_cache(maxsize=4)
def _placed(agents: tuple[str, ...], channels: tuple[tuple[str, str], ...]) -> dict[str, Points]:
    """Place the agents, cached for all seeds of a run."""
    plain: nx.DiGraph[str] = nx.DiGraph()
    plain.add_nodes_from(agents)
    plain.add_edges_from(channels)
    if nx.is_directed_acyclic_graph(plain):
        return _columns(plain)
    return _springs(plain)


def _columns(plain: nx.DiGraph[str]) -> dict[str, Points]:
    """Place by topological generation, each column ordered by the mean height of its senders."""
    generations = [sorted(names) for names in nx.topological_generations(plain)]
    tallest = max((len(names) for names in generations), default=1)
    gap = min(1.15, max(0.12, 9.0 / tallest))
    step = min(1.9, max(0.7, 15.0 / max(len(generations), 1)))
    places: dict[str, Points] = {}
    for column, names in enumerate(generations):
        heights = {
            name: float(np.mean([places[sender][1] for sender in plain.predecessors(name)] or [0.0]))
            for name in names
        }
        own_gap = min(2.2, gap * tallest / len(names))
        for row, name in enumerate(sorted(names, key=lambda name: -heights[name])):
            places[name] = np.array([step * column, own_gap * ((len(names) - 1) / 2 - row)])
    return places


def _springs(plain: nx.DiGraph[str]) -> dict[str, Points]:
    """Place by springs, begun on a circle, then separate overlapping agents."""
    names = list(plain)
    count = len(names)
    side = float(np.clip(1.2 * np.sqrt(count) + 0.6, 2.4, 11.5))
    raw = nx.circular_layout(plain)
    if count <= _SPRINGS:
        raw = nx.spring_layout(plain.to_undirected(), pos=raw, k=2.2 / np.sqrt(count), iterations=200, seed=0)
    centres = np.array([raw[name] for name in names], dtype=np.float64)
    extent = centres.max(0) - centres.min(0)
    centres *= side / max(float(extent.max()), 1e-9)
    if count <= _SPRINGS:
        centres = _separated(centres, 3.5 * min(0.28, 0.22 * side / np.sqrt(count)))
    return dict(zip(names, centres, strict=True))


def _separated(centres: Points, distance: float) -> Points:
    """Separate points that are closer than `distance`, iteratively."""
    for _ in range(60):
        between = centres[:, None] - centres[None]
        lengths = np.linalg.norm(between, axis=2) + np.eye(len(centres))
        lacking = np.clip(distance - lengths, 0.0, None) * (1 - np.eye(len(centres)))
        centres = centres + 0.3 * (between * (lacking / np.maximum(lengths, 1e-6))[:, :, None]).sum(1)
    return centres


_ROW = 40
"""Most agents in a row of one timescale; more form several rows."""


def positions(graph: nx.MultiDiGraph[str]) -> tuple[dict[str, Points], bool]:
    """Return the agents' positions in the unit square, and whether they are ordered by timescale.

    Where agents have different periods each period is a level, the slowest on top. Else positions are those of the picture of
    the graph: in columns where it has no cycle, by springs where it has one; proportions are kept.

    Args:
        graph: Agents with `period` (1 where it is missing) and channels.
    """
    if not len(graph):
        return {}, False
    placed = place(graph)
    periods = {name: int(node.get("period", 1)) for name, node in graph.nodes(data=True)}
    if len(set(periods.values())) > 1:
        return _levels(placed, periods), True
    names = list(placed)
    points = np.array([placed[name] for name in names], dtype=np.float64)
    low, high = points.min(0), points.max(0)
    side = max(float((high - low).max()), 1e-9)
    points = (points - (low + high) / 2) / side + 0.5
    return dict(zip(names, points, strict=True)), False


def _levels(placed: dict[str, Points], periods: dict[str, int]) -> dict[str, Points]:
    """Place each period's agents in a row, in the placement's order from left to right."""
    levels = sorted(set(periods.values()))
    found = {}
    for level, period in enumerate(levels):
        own = sorted(
            (name for name in placed if periods[name] == period), key=lambda n: (placed[n][0], -placed[n][1])
        )
        rows = -(-len(own) // _ROW)
        wide = -(-len(own) // rows)
        for place_, name in enumerate(own):
            row, column = place_ % rows, place_ // rows
            x = (column + 0.5 + (row % 2) * 0.5 * (rows > 1)) / (wide + 0.5 * (rows > 1))
            y = (level + 0.5 + (row - (rows - 1) / 2) * 0.7 / rows) / len(levels)
            found[name] = np.array([x, y])
    return found
