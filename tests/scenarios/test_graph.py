"""Scenarios of networkx graphs."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.scenarios.made import OBJECTIVE

ENV = {"id": "antiphon/Digits-v0"}


def eyes() -> nx.DiGraph[Any]:
    """Two eyes and a mind, with a Python network."""
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_node("left", network=network, observes=["left_half"])
    graph.add_node("right", network=network, observes=["right_half"])
    graph.add_node("mind", network=network, objective=OBJECTIVE)
    for eye in ("left", "right"):
        graph.add_edge(
            eye, "mind", size=32, coupling="decoupled", gradient={"kind": "linear", "context": ["label"]}
        )
    return graph


def network(inputs: int, outputs: int) -> None:
    """Stands for a factory."""


def refused(graph: nx.Graph[Any], **fields: Any) -> str:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_graph(graph, **{"env": ENV, **fields})
    return str(caught.value)


def test_digraph() -> None:
    scenario = Scenario.from_graph(
        eyes(), env=ENV, batch=256, optimiser={"kind": "sgd", "lr": 0.1}, readout="mind"
    )
    assert scenario.scenario == "graph"
    assert scenario.training.batch == 256
    assert scenario.training.optimiser.kind == "sgd"
    assert scenario.readout == ("mind",)
    assert [channel.name for channel in scenario.channels] == ["left->mind", "right->mind"]
    assert scenario.agents["left"].network is network
    assert Scenario.from_graph(scenario.to_graph()) == scenario


def test_multigraph_keys_are_channel_keys() -> None:
    graph: nx.MultiDiGraph[int] = nx.MultiDiGraph(scenario="numbers", env=ENV)
    graph.add_node(0, observes=["image"])
    graph.add_node(1, objective=OBJECTIVE)
    graph.add_edge(0, 1)
    graph.add_edge(0, 1, size=4)
    graph.add_edge(0, 1, key="fast", size=[1, 2, 2])
    scenario = Scenario.from_graph(graph)
    assert scenario.scenario == "numbers"
    assert [(channel.name, channel.size) for channel in scenario.channels] == [
        ("0->1", None),
        ("0->1:1", 4),
        ("0->1:fast", (1, 2, 2)),
    ]
    assert list(scenario.to_graph().edges(keys=True)) == [("0", "1", 0), ("0", "1", 1), ("0", "1", "fast")]


def test_refused() -> None:
    graph = eyes()
    graph.edges["left", "mind"]["sise"] = graph.edges["left", "mind"].pop("size")
    assert refused(graph) == "channels[left->mind].sise: unknown key 'sise'; did you mean 'size'?"
    graph = eyes()
    graph.edges["left", "mind"]["from"] = "right"
    assert refused(graph) == "channels[left->mind].from: is given by the edge itself; leave it out"
    graph = eyes()
    graph.add_node(("a", 1))
    assert refused(graph) == (
        "agents: a node must be a word or a whole number, not ['a', 1]; "
        "use networkx.convert_node_labels_to_integers(graph)"
    )
    assert refused(nx.DiGraph([(1, "1")])) == "agents.1: two nodes have this name; rename one"
    assert refused(nx.Graph([(1, 2)])) == (
        "graph: is undirected, and channels are directed; use graph.to_directed()"
    )
    assert refused(eyes(), patience=3).startswith("patience: unknown argument 'patience'; known: ")
    graph = eyes()
    graph.graph["trainin"] = {"batch": 3}
    assert refused(graph) == "trainin: unknown graph attribute 'trainin'; did you mean 'training'?"
    graph = eyes()
    graph.edges[next(iter(graph.edges))]["weight"] = 2.0
    assert "unknown key 'weight'" in refused(graph)
    assert refused(eyes(), stepz=3) == "stepz: unknown argument 'stepz'; did you mean 'steps'?"
    with pytest.raises(ScenarioError, match=r"^env: is missing; for example env: antiphon"):
        Scenario.from_graph(eyes())
