"""The division of graphs into parts: balanced, and of graphs whose smallest cut is known nearly that."""

from __future__ import annotations

import networkx as nx
import pytest

from antiphon.distributed.parts.placement import divided

GRAPHS: dict[str, tuple[nx.Graph, int, float]] = {
    "a ring": (nx.cycle_graph(12), 2, 2),
    "a ring in many": (nx.cycle_graph(13), 7, 7),
    "a chain": (nx.path_graph(64), 4, 3),
    "a grid": (nx.convert_node_labels_to_integers(nx.grid_2d_graph(16, 16)), 2, 18),
    "a lattice": (nx.connected_watts_strogatz_graph(200, 4, 0.0, seed=3), 2, 6),
    "a tree": (nx.balanced_tree(2, 5), 4, 6),
    "dense groups on a ring": (nx.connected_caveman_graph(16, 16), 4, 4),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("costs", ["equal", "unequal"])
def test_parts_are_balanced_and_little_is_cut(name: str, costs: str) -> None:
    graph, parts, most = GRAPHS[name]
    nx.set_edge_attributes(graph, 1.0, "weight")
    cost = [1.0 if costs == "equal" else 1.0 + node * 7 % 5 for node in graph]
    part = divided(graph, cost, parts)
    loads = [sum(c for c, own in zip(cost, part, strict=True) if own == number) for number in range(parts)]
    assert set(part) == set(range(parts))
    assert max(loads) <= max(1.05 * sum(cost) / parts, sum(cost) / parts + max(cost))
    if costs == "equal":
        assert sum(part[one] != part[other] for one, other in graph.edges) <= most


def test_heavy_edges_are_kept_and_one_heavy_node_leaves_the_others_a_part_each() -> None:
    ring = nx.cycle_graph(40)
    for one, other in ring.edges:
        ring[one][other]["weight"] = 100.0 if one // 4 == other // 4 else 1.0
    part = divided(ring, [1.0] * 40, 5)
    assert sum(part[one] != part[other] for one, other in ring.edges) == 5
    assert all(part[node] == part[node - node % 4] for node in ring)
    path = nx.path_graph(3)
    nx.set_edge_attributes(path, 1.0, "weight")
    assert sorted(divided(path, [1000.0, 1.0, 1.0], 3)) == [0, 1, 2]
