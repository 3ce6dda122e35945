"""Scenarios of graphs: networkx's, and what each generator makes, and where its errors point."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

from antiphon.base.errors import ScenarioError
from antiphon.scenarios import NetworkSpec, Scenario, Template
from antiphon.scenarios.yaml_text import write
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
    graph.add_node(("a", 1))
    assert refused(graph).endswith("is not a name; use letters, digits, '_' and '-'")
    assert refused(nx.Graph([(1, 2)])) == (
        "graph: is undirected, and channels are directed; use graph.to_directed()"
    )
    assert refused(eyes(), patience=3).startswith("patience: unknown key 'patience'; known: ")
    graph = eyes()
    graph.graph["trainin"] = {"batch": 3}
    assert refused(graph) == "trainin: unknown key 'trainin'; did you mean 'training'?"
    graph = eyes()
    graph.edges[next(iter(graph.edges))]["weight"] = 2.0
    assert "unknown key 'weight'" in refused(graph)
    assert refused(eyes(), stepz=3) == "stepz: unknown key 'stepz'; did you mean 'steps'?"
    with pytest.raises(ScenarioError, match=r"^env: is missing$"):
        Scenario.from_graph(eyes())


# --- generators ------------------------------------------------------------------------------------------


def made(graph: dict[str, Any], agent: dict[str, Any] | None = None, **sections: Any) -> Scenario:
    document = {
        "scenario": "x",
        "env": {"id": "x"},
        "graph": graph,
        "agent": {"readout": {"objective": OBJECTIVE}}
        | ({"observes": ["image"]} if agent is None else agent),
        "channel": {"link": {"delay": 1}},
        **sections,
    }
    return Template.from_yaml(
        write({key: value for key, value in document.items() if value is not None})
    ).resolve()


def arcs(scenario: Scenario) -> list[tuple[str, str]]:
    return [(channel.sender, channel.receiver) for channel in scenario.channels]


def test_chain() -> None:
    first = {"observes": ["image"]}
    scenario = made({"kind": "chain", "agents": 3, "readout": 2}, agent={"first": first})
    assert list(scenario.agents) == ["n0", "n1", "n2"]
    assert arcs(scenario) == [("n0", "n1"), ("n1", "n2")]
    assert scenario.readout == ("n1", "n2")
    assert [agent.observes for agent in scenario.agents.values()] == [("image",), (), ()]


def test_ring() -> None:
    scenario = made({"kind": "ring", "agents": 4, "readout": 2})
    assert arcs(scenario) == [("n0", "n1"), ("n1", "n2"), ("n2", "n3"), ("n3", "n0")]
    assert scenario.readout == ("n0", "n2")
    assert list(made({"kind": "ring", "agents": 11}).agents)[9:] == ["n09", "n10"]


def test_tree_leads_from_the_leaves_to_the_root() -> None:
    scenario = made({"kind": "tree", "agents": 7, "r": 2}, channel={})
    assert scenario.relations.waves == (("n3", "n4", "n5", "n6"), ("n1", "n2"), ("n0",))
    assert scenario.readout == ("n0",)
    assert len(made({"kind": "tree", "agents": 7, "r": 6}, channel={}).relations.waves) == 2


@pytest.mark.parametrize(
    "graph",
    [
        {"kind": "connected_watts_strogatz_graph", "k": 4, "p": 0.3},
        {"kind": "barabasi_albert_graph", "m": 2},
    ],
)
def test_drawn_graphs_are_connected_symmetric_and_seeded(graph: dict[str, Any]) -> None:
    scenario = made({**graph, "agents": 20, "seed": 3})
    found = arcs(scenario)
    assert {(receiver, sender) for sender, receiver in found} == set(found)
    assert all(sender != receiver for sender, receiver in found)
    assert nx.is_strongly_connected(nx.DiGraph(found))
    assert len(nx.DiGraph(found)) == 20
    assert made({**graph, "agents": 20, "seed": 3}) == scenario
    assert made({**graph, "agents": 20, "seed": 4}) != scenario
    assert len(found) == (80 if "k" in graph else 72)


def test_dealt_agents_take_turns() -> None:
    scenario = made(
        {"kind": "ring", "agents": 5, "readout": 2},
        agent={
            "observes": ["image"],
            "learn": False,
            "deal": [{"network": {"hidden": [3]}}, {"network": {"hidden": [4]}, "learn": True}],
            "first": {"observes": ["other"]},
            "readout": {"objective": OBJECTIVE, "network": {"hidden": [5]}},
        },
    )
    agents = scenario.agents.values()
    hidden = [agent.network.hidden[0] for agent in agents if isinstance(agent.network, NetworkSpec)]
    assert hidden == [5, 4, 5, 4, 3]
    assert [agent.learn for agent in agents] == [False, True, False, True, False]
    assert [agent.observes for agent in agents] == [("other",), *[("image",)] * 4]


def known(who: str, gradient: dict[str, Any], coupling: str = "decoupled") -> dict[str, tuple[str, ...]]:
    """The channels of a chain of four by name, with coupling, kind, context and target."""
    channel = {"gradient": gradient, "coupling": coupling}
    scenario = made({"kind": "chain", "agents": 4, "split": {"label": who}}, channel=channel)
    return {
        c.name: (c.coupling.name, c.gradient.kind, *(c.gradient.context or ()), str(c.gradient.own_target))
        for c in scenario.channels
    }


def test_a_split_by_signal_keeps_a_signal_from_those_that_send_to_no_readout() -> None:
    linear = {"kind": "linear", "context": ["label", "odd"]}
    everywhere = ("decoupled", "linear", "label", "odd", "None")
    assert known("all", linear) == dict.fromkeys(["n0->n1", "n1->n2", "n2->n3"], everywhere)
    assert known("adjacent", linear) == {
        "n0->n1": ("decoupled", "linear", "odd", "None"),
        "n1->n2": ("decoupled", "linear", "odd", "None"),
        "n2->n3": everywhere,
    }


def test_explicit_agents_and_channels_stand_beside_generated_ones() -> None:
    scenario = made(
        {"kind": "chain", "agents": 2},
        agents={"eye": {"observes": ["image"]}},
        channels=[{"from": "eye", "to": "n1"}],
        readout="n1",
    )
    assert list(scenario.agents) == ["eye", "n0", "n1"]
    assert arcs(scenario) == [("eye", "n1"), ("n0", "n1")]


CHAIN = {"kind": "chain", "agents": 3}


@pytest.mark.parametrize(
    ("graph", "sections", "line"),
    [
        ({"kind": "chian", "agents": 3}, {}, "3: graph.kind: unknown kind 'chian'; did you mean 'chain'?"),
        ({"kind": "chain"}, {}, "3: graph.agents: is missing"),
        ({**CHAIN, "neighbours": 2}, {}, "3: graph: chain: path_graph() got an unexpected"),
        (
            {"kind": "barabasi_albert_graph", "agents": 8, "m": 9},
            {},
            "3: graph: barabasi_albert_graph: Barabási–Albert network must have m >= 1 and m < n, m = 9, n = 8",
        ),
        (
            {**CHAIN, "split": 3},
            {},
            "3: graph.split: must be the number of one of the chain's channels (1 to 2), not 3",
        ),
        (
            CHAIN,
            {"agent": {"deal": [{}, {"network": {"hidden": [0]}}]}},
            "4: agents.n1.network.hidden[0]: must be at least 1, not 0",
        ),
        (
            CHAIN,
            {"agents": {"n1": {}}},
            "7: agents.n1: the graph generates an agent with this name too; rename",
        ),
    ],
)
def test_refused_of_generators(graph: dict[str, Any], sections: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        made(graph, **sections)
    assert str(caught.value).startswith(f"scenario:{line}")
