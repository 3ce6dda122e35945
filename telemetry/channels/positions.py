"""Positions of agents in the Channels tab, computed once at the beginning of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.placement import place

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Point", "positions"]

Point = NDArray[np.float64]
"""[2]: x to the right, y upwards."""

_ROW = 40
"""Most agents in a row of one timescale; more form several rows."""


def positions(graph: nx.MultiDiGraph[str]) -> tuple[dict[str, Point], bool]:
    """Return the agents' positions in the unit square, and whether they are ordered by timescale.

    Where agents have different periods each period is a level, the slowest on top. Else positions are those of the picture of
    the graph: in columns where it has no cycle, by springs where it has one; proportions are kept.

    Args:
        graph: Agents with `period` (1 where it is missing) and channels.
    """
    if not len(graph):
        return {}, False
    placed = place(graph).places
    periods = {name: int(node.get("period", 1)) for name, node in graph.nodes(data=True)}
    if len(set(periods.values())) > 1:
        return _levels(placed, periods), True
    names = list(placed)
    points = np.array([placed[name] for name in names], dtype=np.float64)
    low, high = points.min(0), points.max(0)
    side = max(float((high - low).max()), 1e-9)
    points = (points - (low + high) / 2) / side + 0.5
    return dict(zip(names, points, strict=True)), False


def _levels(placed: dict[str, Point], periods: dict[str, int]) -> dict[str, Point]:
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
