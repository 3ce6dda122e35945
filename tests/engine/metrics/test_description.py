"""What recorders are told of a scenario."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.engine.metrics.description import describe_run, graph_of
from antiphon.scenarios import load
from tests.engine.scenes import CLASSIFY, scenario_of


def test_the_graph_has_clocks_links_and_words() -> None:
    scenario = load("two-timescales").resolve()
    graph = graph_of(scenario)
    assert {name: graph.nodes[name]["period"] for name in graph} == {"A": 1, "B": 4}
    assert graph.nodes["B"]["phase"] == 3, "of a phase of -1"
    assert graph.nodes["B"]["about"]["objective"] == "classification of threes"
    edge = graph.edges["A", "B", 0]
    assert (edge["carries"], edge["delay"], edge["drop"]) == ("message", 0, 0.0)
    assert edge["about"]["link"] == "at once, nothing lost"
    assert graph.edges["A", "A", "state"]["about"]["carries"] == "the state to the next tick"


def test_the_graph_of_a_run_in_parts_has_the_part_of_each_agent() -> None:
    scenario = load("two-timescales").resolve()
    parts = {"count": 2, "placement": {"A": 0, "B": 1}}
    graph = describe_run(scenario, {"parts": parts}).graph
    assert dict(graph.nodes(data="part")) == {"A": 0, "B": 1}
    for facts in ({}, {"parts": None}):
        assert all(
            "part" not in attributes for _, attributes in describe_run(scenario, facts).graph.nodes.items()
        )


def test_words_for_links_and_predictors_name_what_is_used_only() -> None:
    scenario = load("lossy").resolve(values={"drop": 0.25})
    about = next(iter(graph_of(scenario).edges(data="about")))[2]
    assert "drop 0.25" in about["link"]
    local = load("digits-mlp").resolve("local")
    assert graph_of(local).edges["n0", "n1", 0]["about"]["gradient"].startswith("local, target label")
    linear = graph_of(load("digits-mlp").resolve()).edges["n0", "n1", 0]["about"]["gradient"]
    assert "target" not in linear


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"symbols": {"vocabulary": 16}}, ("1 symbol of 16 by gumbel", False)),
        ({"symbols": {"vocabulary": 4, "length": 3, "by": "argmax"}}, ("3 symbols of 4 by argmax", False)),
        ({"size": [4, 2]}, (None, True)),
        ({"size": [2, 2, 2]}, (None, False)),
        ({"size": 8}, (None, False)),
    ],
)
def test_words_for_symbols_and_sites(message: Any, words: tuple[str | None, bool]) -> None:
    agents = {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}}
    channel = {"from": "a", "to": "b", "gradient": {"kind": "linear", "context": ["image"]}, **message}
    about = graph_of(scenario_of(agents, [channel])).edges["a", "b", 0]["about"]
    assert (about.get("message"), "at every site" in about["gradient"]) == words


def test_a_run_is_described_by_its_facts() -> None:
    scenario = load("digits-mlp").resolve()
    facts = {"scenario": "digits-mlp", "seed": 3, "values": {"width": 8, "context": ["label"], "none": None}}
    found = describe_run(scenario, facts, until=70, start=5)
    assert found.hparams == {"scenario": "digits-mlp", "seed": 3, "width": 8, "context": '["label"]'}
    assert (found.until, found.start_step, found.every) == (70, 5, scenario.telemetry.every)
    assert describe_run(scenario, facts).until == scenario.training.steps


def test_an_agent_says_which_weights_it_has_in_common_with_others() -> None:
    scenario = load("digits-mlp").resolve()
    fields = {name: getattr(scenario, name) for name in type(scenario).model_fields}
    graph = graph_of(type(scenario)(**{**fields, "tied": [["n0.0.bias", "n1.0.bias"]]}))
    assert [graph.nodes[name]["about"].get("tied") for name in ("n0", "n1")] == ["n0.0.bias = n1.0.bias"] * 2
    assert not any("tied" in about for name, about in graph.nodes(data="about") if name not in ("n0", "n1"))
