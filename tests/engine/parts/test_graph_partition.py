"""Partition of weighted graphs: balanced, deterministic, and on graphs whose smallest cut is known nearly that."""

from __future__ import annotations

from itertools import product

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.engine.parts.graph_partition import WeightedGraph, partition_graph


def weighted(graph: nx.Graph) -> WeightedGraph:
    """Return a graph of costs and weights of 1."""
    return WeightedGraph([1.0] * len(graph), [dict.fromkeys(graph[node], 1.0) for node in range(len(graph))])


def cut(graph: WeightedGraph, parts: list[int]) -> float:
    """Return the weight between parts."""
    near = enumerate(graph.neighbours)
    return sum(w for node, some in near for other, w in some.items() if parts[node] < parts[other])


def loads(graph: WeightedGraph, parts: list[int]) -> list[float]:
    """Return the cost of each part."""
    found = [0.0] * (max(parts) + 1)
    for cost, part in zip(graph.costs, parts, strict=True):
        found[part] += cost
    return found


@pytest.mark.parametrize(("nodes", "parts"), [(12, 2), (13, 7), (100, 4), (1000, 3)])
def test_a_ring_is_cut_as_often_as_it_has_parts(nodes: int, parts: int) -> None:
    ring = weighted(nx.cycle_graph(nodes))
    found = partition_graph(ring, parts)
    assert set(found) == set(range(parts))
    assert cut(ring, found) == parts
    assert max(loads(ring, found)) <= max(1.1 * nodes / parts, nodes / parts + 1)


def test_a_grid_is_cut_along_a_line() -> None:
    grid = weighted(nx.convert_node_labels_to_integers(nx.grid_2d_graph(24, 24)))
    assert cut(grid, partition_graph(grid, 2)) <= 26


@pytest.mark.parametrize(("rewired", "share"), [(0.0, 6), (0.05, 60), (0.2, 170)])
def test_small_worlds_are_cut_at_two_places_and_what_was_rewired_across(rewired: float, share: int) -> None:
    """Of a ring lattice each of two cuts crosses three edges; of the rewired ones at random half would cross."""
    world = weighted(nx.connected_watts_strogatz_graph(1000, 4, rewired, seed=3))
    assert cut(world, partition_graph(world, 2)) <= share


def test_communities_are_found() -> None:
    """Sixteen dense groups of sixteen on a ring: four parts of four groups cut one edge each."""
    caves = weighted(nx.connected_caveman_graph(16, 16))
    found = partition_graph(caves, 4)
    assert cut(caves, found) == 4
    assert loads(caves, found) == [64, 64, 64, 64]


def test_heavy_edges_are_kept() -> None:
    near: list[dict[int, float]] = [{} for _ in range(40)]
    for node in range(40):
        weight = 100.0 if node % 4 else 1.0
        near[node][(node + 1) % 40] = near[(node + 1) % 40][node] = weight
    graph = WeightedGraph([1.0] * 40, near)
    assert cut(graph, partition_graph(graph, 5)) == 5


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


@settings(max_examples=30)
@given(graphs(40), st.integers(2, 4))
def test_parts_are_balanced_and_never_empty(graph: WeightedGraph, parts: int) -> None:
    found = partition_graph(graph, parts)
    assert len(found) == len(graph.costs)
    assert set(found) == set(range(parts))
    assert found == partition_graph(graph, parts)
    own = loads(graph, found)
    assert max(own) <= 1.1 * sum(own) / parts + max(graph.costs)


@settings(max_examples=40)
@given(graphs(9))
def test_the_two_parts_of_a_small_graph_are_the_best(graph: WeightedGraph) -> None:
    total = sum(graph.costs)

    def quality(parts: list[int]) -> tuple[float, float]:
        return max(abs(loads(graph, parts)[0] - total / 2), 0.025 * total), cut(graph, parts)

    every = (list(sides) for sides in product((0, 1), repeat=len(graph.costs)) if 0 < sum(sides) < len(sides))
    assert quality(partition_graph(graph, 2)) == min(map(quality, every))
