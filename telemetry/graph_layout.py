"""Layout of a graph: positions of its agents in the Channels tab."""

from __future__ import annotations

from functools import lru_cache

import networkx as nx
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""One point (2,): x to the right, y upwards."""

_SPRINGS = 450
"""Most agents that are placed by a spring layout; more are placed on a circle."""
_ROW = 40
"""Most agents in one row of a timescale; more form several rows."""


def positions(graph: nx.MultiDiGraph[str]) -> tuple[dict[str, Points], bool]:
    """Return the agents' positions in the unit square, and whether they are ordered by timescale.

    If agents have different periods, each period is a level, the slowest on top. Otherwise they are in columns from left to
    right if the graph has no cycle, and in a spring layout if it has one. The result is deterministic, and no shared random
    state is used.

    Args:
        graph: Agents with `period` (1 if it is missing) and channels; channels from an agent to itself are ignored.
    """
    edges = sorted({(a, b) for a, b in graph.edges() if a != b})
    placed = _placed(tuple(sorted(graph)), tuple(edges))
    periods = {name: int(node.get("period", 1)) for name, node in graph.nodes(data=True)}
    if len(set(periods.values())) > 1:
        return _levels(placed, periods), True
    return placed, False


@lru_cache(maxsize=4)
def _placed(agents: tuple[str, ...], channels: tuple[tuple[str, str], ...]) -> dict[str, Points]:
    """Place the agents in the unit square, cached for all seeds of a run."""
    plain: nx.DiGraph[str] = nx.DiGraph()
    plain.add_nodes_from(agents)
    plain.add_edges_from(channels)
    if nx.is_directed_acyclic_graph(plain):
        return _columns(plain)
    layout = nx.circular_layout(plain)
    if len(plain) <= _SPRINGS:
        near = 2.2 / np.sqrt(len(plain))
        layout = nx.spring_layout(plain.to_undirected(), pos=layout, k=near, iterations=200, seed=0)
    return {name: point / 2 + 0.5 for name, point in nx.rescale_layout_dict(layout).items()}


def _columns(plain: nx.DiGraph[str]) -> dict[str, Points]:
    """Place by topological generation, each column ordered by the mean height of its senders."""
    generations = [sorted(names) for names in nx.topological_generations(plain)]
    points: dict[str, Points] = {}
    for column, names in enumerate(generations):
        heights = {
            name: float(np.mean([points[sender][1] for sender in plain.predecessors(name)] or [0.0]))
            for name in names
        }
        for row, name in enumerate(sorted(names, key=lambda name: -heights[name])):
            points[name] = np.array([(column + 0.5) / len(generations), 1 - (row + 0.5) / len(names)])
    return points


def _levels(placed: dict[str, Points], periods: dict[str, int]) -> dict[str, Points]:
    """Place each period's agents in a row, in the placement's order from left to right."""
    levels = sorted(set(periods.values()))
    points = {}
    for level, period in enumerate(levels):
        names = sorted(
            (name for name in placed if periods[name] == period), key=lambda n: (placed[n][0], -placed[n][1])
        )
        rows = -(-len(names) // _ROW)
        wide = -(-len(names) // rows)
        for index, name in enumerate(names):
            row, column = index % rows, index // rows
            x = (column + 0.5 + (row % 2) * 0.5 * (rows > 1)) / (wide + 0.5 * (rows > 1))
            y = (level + 0.5 + (row - (rows - 1) / 2) * 0.7 / rows) / len(levels)
            points[name] = np.array([x, y])
    return points
