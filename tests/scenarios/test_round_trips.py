"""Random scenarios: YAML, Python and networkx say exactly the same; random rubbish gets our own error."""

from __future__ import annotations

import itertools
import math
from typing import Any

import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import UnsatisfiedAssumption

from antiphon.base.errors import ScenarioError
from antiphon.scenarios import (
    Scenario,
    Template,
    warnings,
)
from tests.contracts.drawn_scenes import scenes

FORMS = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
ENV = {"id": "antiphon/Digits-v0"}
"""In place of the environment of drawn scenes, which is an object."""


def drawn(document: dict[str, Any]) -> Scenario:
    try:
        return Scenario.model_validate({**document, "env": ENV})
    except ScenarioError:  # a few are not valid
        raise UnsatisfiedAssumption from None


@pytest.mark.long
@given(scenes(alike=False))
@FORMS
def test_forms_round_trip_exactly(document: dict[str, Any]) -> None:
    scenario = drawn(document)
    text = scenario.to_yaml()
    again = Scenario.from_yaml(text)
    assert again == scenario
    assert again.to_yaml() == text
    graph = scenario.to_graph()
    assert Scenario.from_graph(graph) == scenario
    assert Scenario.from_graph(nx.MultiDiGraph(graph.copy())) == scenario
    assert Template.from_yaml(text).resolve() == scenario
    assert all("\n" not in line for line in warnings(scenario))


TEXTS = ["", "no", "012", "1e-3", "a: b", "# a", "é 𢞽", "a\nb\n", *" ~'\"\r\x85\u2028\ufeff"]


@pytest.mark.parametrize("text", [*TEXTS, "\x00\x07", "-" * 300])
def test_any_text_survives(text: str) -> None:
    agent = {"observes": ["image"], "objective": {"kind": "regression", "target": "label"}}
    env = {"id": text, "key": [text, {"inner": text}]}
    document = {"scenario": "x", "description": text, "env": env, "agents": {"a": agent}}
    scenario = Scenario.model_validate(document)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario


def test_names_that_yaml_takes_for_something_else_survive() -> None:
    names = ["no", "1", "null", "true", "1e3", "012", "B", "n-1"]
    agent = {"observes": ["on", "0x1"], "objective": {"kind": "regression", "target": "label"}}
    channels = [{"from": a, "to": b, "size": 4, "port": "p"} for a, b in itertools.pairwise(names)]
    document = {
        "scenario": "x",
        "env": {"id": "x"},
        "agents": dict.fromkeys(names, agent),
        "channels": channels,
    }
    scenario = Scenario.model_validate(document)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert Scenario.from_graph(scenario.to_graph()) == scenario


@pytest.mark.long
@given(scenes(alike=False))
@FORMS
def test_what_follows_is_sound(document: dict[str, Any]) -> None:
    scenario = drawn(document)
    level = {name: number for number, wave in enumerate(scenario.relations.waves) for name in wave}
    assert sorted(level) == sorted(scenario.agents)
    messages = [channel for channel in scenario.channels if not channel.state]
    for channel in messages:
        assert channel.link.delay > 0 or level[channel.sender] < level[channel.receiver]
        assert channel in scenario.relations.inputs[channel.receiver]
        assert channel in scenario.relations.outputs[channel.sender]
    groups = scenario.relations.locked_groups
    assert sorted(name for group in groups for name in group) == sorted(scenario.agents)
    of = {name: group for group in groups for name in group}
    assert all(of[c.sender] == of[c.receiver] for c in scenario.channels if c.coupling.name == "locked")
    for channel in scenario.channels:
        assert not channel.state or scenario.relations.states.get(channel.sender) is channel
    for group in groups:
        memories = [scenario.relations.states.get(name) for name in group]
        clocks_of = [scenario.agents[name].clock for name in group]
        whole = any(memory is not None and memory.coupling.name == "locked" for memory in memories)
        if whole or any(clock.unroll == "episode" for clock in clocks_of):
            assert scenario.relations.window(group) == "episode"
            continue
        assert scenario.relations.window(group) == math.lcm(
            *(clock.period * int(clock.unroll) for clock in clocks_of)
        )


@given(st.text(max_size=60) | st.text(alphabet="ab:[]{}-!&*#|>'\"%@ \n\t,?~012", max_size=60))
@settings(max_examples=50)
def test_any_text_is_refused_with_our_error_alone(text: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("f.yaml")
