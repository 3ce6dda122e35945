"""Generators: what each kind of graph makes, and where its errors point."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

from antiphon.errors import ScenarioError
from antiphon.scenarios import NetworkSpec, Scenario, Template
from antiphon.scenarios.yaml_text import write
from tests.scenarios.made import OBJECTIVE


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
    scenario = made({"kind": "tree", "agents": 7, "neighbours": 2}, channel={})
    assert scenario.waves() == (("n3", "n4", "n5", "n6"), ("n1", "n2"), ("n0",))
    assert scenario.readout == ("n0",)
    assert len(made({"kind": "tree", "agents": 7, "neighbours": 6}, channel={}).waves()) == 2


@pytest.mark.parametrize(
    "graph",
    [
        {"kind": "small_world", "neighbours": 4, "rate": 0.3},
        {"kind": "scale_free", "neighbours": 2},
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
    assert len(found) == (80 if graph["kind"] == "small_world" else 72)


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
        ({**CHAIN, "neighbours": 2}, {}, "3: graph.neighbours: a chain graph has none; leave it out"),
        (
            {"kind": "small_world", "agents": 8, "neighbours": 3, "rate": 0},
            {},
            "3: graph.neighbours: must be even in a small world, not 3",
        ),
        (
            {**CHAIN, "split": 3},
            {},
            "3: graph.split: must be the number of one of the chain's channels (1 to 2), not 3",
        ),
        (
            CHAIN,
            {"agent": {"deal": [{}, {"network": {"hidden": [0]}}]}},
            "4: agent.deal[1].network.hidden[0]: must be at least 1, not 0",
        ),
        (
            CHAIN,
            {"agents": {"n1": {}}},
            "7: agents.n1: the graph generates an agent with this name too; rename",
        ),
        (CHAIN, {"agent": {}}, "4: agent: observes nothing and has no incoming channel; give it one of the"),
    ],
)
def test_refused(graph: dict[str, Any], sections: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        made(graph, **sections)
    assert str(caught.value).startswith(f"scenario:{line}")
