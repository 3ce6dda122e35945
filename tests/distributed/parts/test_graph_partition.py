"""Partition of weighted graphs: balanced, deterministic, and on graphs whose smallest cut is known nearly that."""

from __future__ import annotations

from itertools import product

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.distributed.parts.graph_partition import WeightedGraph, partition_graph


def weighted(graph: nx.Graph, heavy: float = 1.0) -> WeightedGraph:
    """Return a graph of costs of 1, and weights of 1 but for edges that are inside of blocks of four."""
    near: list[dict[int, float]] = [
        {other: heavy if node // 4 == other // 4 else 1.0 for other in graph[node]}
        for node in range(len(graph))
    ]
    return WeightedGraph([1.0] * len(graph), near)


def cut(graph: WeightedGraph, parts: list[int]) -> float:
    """Return the weight between parts."""
    near = enumerate(graph.neighbours)
    return sum(w for node, some in near for other, w in some.items() if parts[node] < parts[other])


def loads(graph: WeightedGraph, parts: list[int]) -> list[float]:
    """Return the cost of each part."""
    costs = list(zip(graph.costs, parts, strict=True))
    return [sum(cost for cost, own in costs if own == part) for part in range(max(parts) + 1)]


GRAPHS: dict[str, tuple[WeightedGraph, int, float]] = {
    **{f"a ring of {n} in {k}": (weighted(nx.cycle_graph(n)), k, k) for n, k in ((12, 2), (13, 7), (400, 3))},
    "a grid, along a line": (weighted(nx.convert_node_labels_to_integers(nx.grid_2d_graph(16, 16))), 2, 18),
    # of a ring lattice each of two cuts crosses three edges; of those rewired at random half would cross
    "a lattice": (weighted(nx.connected_watts_strogatz_graph(400, 4, 0.0, seed=3)), 2, 6),
    "a small world": (weighted(nx.connected_watts_strogatz_graph(400, 4, 0.2, seed=3)), 2, 70),
    "dense groups on a ring": (weighted(nx.connected_caveman_graph(16, 16)), 4, 4),
    "heavy edges": (weighted(nx.cycle_graph(40), heavy=100.0), 5, 5),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_little_is_cut_of_graphs_whose_smallest_cut_is_known(name: str) -> None:
    graph, parts, most = GRAPHS[name]
    found = partition_graph(graph, parts)
    assert set(found) == set(range(parts))
    assert cut(graph, found) <= most
    share = len(graph.costs) / parts
    assert max(loads(graph, found)) <= max(1.1 * share, share + 1)


def test_one_heavy_node_leaves_the_others_a_part_each() -> None:
    graph = WeightedGraph([1000.0, 1.0, 1.0], [{1: 1.0}, {0: 1.0, 2: 1.0}, {1: 1.0}])
    assert sorted(partition_graph(graph, 3)) == [0, 1, 2]


@st.composite
def graphs(draw: st.DrawFn, most: int) -> WeightedGraph:
    """Graphs of whole costs and weights."""
    size = draw(st.integers(4, most))
    costs = draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))
    near: list[dict[int, float]] = [{} for _ in range(size)]
    node = st.integers(0, size - 1)
    for one, other, weight in draw(st.lists(st.tuples(node, node, st.integers(1, 9)), max_size=3 * size)):
        if one != other:
            near[one][other] = near[other][one] = float(weight)
    return WeightedGraph([float(cost) for cost in costs], near)


@pytest.mark.long
@settings(max_examples=20)
@given(graphs(40), st.integers(2, 4))
def test_parts_are_balanced_and_never_empty(graph: WeightedGraph, parts: int) -> None:
    found = partition_graph(graph, parts)
    assert len(found) == len(graph.costs)
    assert set(found) == set(range(parts))
    assert found == partition_graph(graph, parts)
    own = loads(graph, found)
    assert max(own) <= 1.1 * sum(own) / parts + max(graph.costs)


@settings(max_examples=25)
@given(graphs(9))
def test_the_two_parts_of_a_small_graph_are_the_best(graph: WeightedGraph) -> None:
    total = sum(graph.costs)

    def quality(parts: list[int]) -> tuple[float, float]:
        return max(abs(loads(graph, parts)[0] - total / 2), 0.025 * total), cut(graph, parts)

    every = (list(sides) for sides in product((0, 1), repeat=len(graph.costs)) if 0 < sum(sides) < len(sides))
    assert quality(partition_graph(graph, 2)) == min(map(quality, every))
