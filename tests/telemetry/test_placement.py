"""Where agents stand in the Channels tab."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from antiphon.telemetry.graph_layout import positions


def graph_of(pairs: list[tuple[int, int]], periods: dict[int, int] | None = None) -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for a, b in pairs:
        graph.add_edge(f"a{a}", f"a{b}", key=0)
    for name, period in (periods or {}).items():
        graph.add_node(f"a{name}", period=period)
    return graph


def ring(count: int) -> nx.MultiDiGraph[str]:
    return graph_of([(i, (i + 1) % count) for i in range(count)])


@pytest.mark.parametrize("count", [12, 120])
def test_who_talks_stands_near_and_the_same_graph_is_placed_alike(count: int) -> None:
    found, _ = positions(ring(count))
    points = np.array([found[f"a{i}"] for i in range(count)])
    neighbours = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).mean()
    anybody = np.linalg.norm(points[:, None] - points[None], axis=2).mean()
    assert neighbours < 0.5 * anybody
    again, _ = positions(ring(count))
    assert all(np.array_equal(again[name], place) for name, place in found.items())


def test_timescales_are_levels_the_slowest_on_top() -> None:
    pairs = [(i, 50 + i % 5) for i in range(50)] + [(50 + i, 99) for i in range(5)]
    periods = dict.fromkeys(range(50), 1) | {50 + i: 4 for i in range(5)} | {99: 16}
    found, by_timescale = positions(graph_of(pairs, periods))
    assert by_timescale
    heights = {
        period: [found[f"a{n}"][1] for n, p in periods.items() if p == period] for period in (1, 4, 16)
    }
    assert max(heights[1]) < 1 / 3 < min(heights[4])
    assert max(heights[4]) < 2 / 3 < min(heights[16])
    assert len(set(np.round(heights[1], 6))) == 2, "fifty stand in two rows"
    assert len({tuple(np.round(place, 9)) for place in found.values()}) == 56
