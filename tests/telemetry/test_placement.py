"""Where agents stand in the picture of a graph: apart, from left to right, and at the same places each time."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest

from antiphon.telemetry.placement import place


def named(graph: nx.Graph[int]) -> nx.MultiDiGraph[str]:
    made: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    made.add_nodes_from(f"n{node:02}" for node in graph)
    made.add_edges_from((f"n{a:02}", f"n{b:02}") for a, b in graph.edges())
    return made


SMALL_WORLD = named(nx.connected_watts_strogatz_graph(32, 4, 0.3, seed=1).to_directed())
GRAPHS = {
    "small world": SMALL_WORLD,
    "chain": named(nx.path_graph(5, create_using=nx.DiGraph)),
    "tree": named(nx.reverse(nx.balanced_tree(2, 3, create_using=nx.DiGraph))),
    "scale free": named(nx.barabasi_albert_graph(150, 2, seed=1).to_directed()),
    "two": named(nx.path_graph(2).to_directed()),
    "alone": named(nx.empty_graph(1)),
    "nobody": named(nx.empty_graph(0)),
    "no channels": named(nx.empty_graph(7)),
    "hundreds": named(nx.cycle_graph(450, create_using=nx.DiGraph)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_all_agents_of_every_kind_of_graph_stand_apart(name: str) -> None:
    places = place(GRAPHS[name])
    assert places.keys() == set(GRAPHS[name])
    assert all(np.linalg.norm(a - b) > 0.05 for a, b in itertools.combinations(places.values(), 2))


def test_the_same_graph_has_the_same_places() -> None:
    again: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    again.add_nodes_from(SMALL_WORLD)
    again.add_edges_from(reversed(list(SMALL_WORLD.edges())))
    for name, centre in place(again).items():
        np.testing.assert_array_equal(centre, place(SMALL_WORLD)[name])


@pytest.mark.parametrize("name", ["chain", "tree"])
def test_a_graph_without_cycles_runs_from_left_to_right(name: str) -> None:
    places = place(GRAPHS[name])
    assert all(places[a][0] < places[b][0] for a, b in GRAPHS[name].edges())
