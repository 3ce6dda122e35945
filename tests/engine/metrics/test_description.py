"""What recorders are told of a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from antiphon import Scenario, Simulation, load
from antiphon.telemetry import Recorder, RunDescription
from tests.engine.scenes import CLASSIFY, scenario_of


def graph_of(scenario: Scenario) -> Any:
    with Simulation(scenario) as simulation:
        return simulation.graph


def test_the_graph_has_clocks_links_and_words() -> None:
    graph = graph_of(load("two-timescales").resolve())
    assert {name: graph.nodes[name]["period"] for name in graph} == {"A": 1, "B": 4}
    assert graph.nodes["B"]["phase"] == 3, "of a phase of -1"
    assert graph.nodes["B"]["about"]["objective"] == "classification of threes"
    edge = graph.edges["A", "B", 0]
    assert (edge["carries"], edge["delay"], edge["drop"]) == ("message", 0, 0.0)
    assert edge["about"]["link"] == "no delay, no loss"
    assert graph.edges["A", "A", "state"]["about"]["carries"] == "the state to the next tick"


def test_words_for_links_and_predictors_name_what_is_used_only() -> None:
    about = next(iter(graph_of(load("lossy").resolve(values={"drop": 0.25})).edges(data="about")))[2]
    assert "drop 0.25" in about["link"]
    words = {}
    for variant in (None, "local"):
        graph = graph_of(load("digits-mlp").resolve(variant))
        words[variant] = graph.edges["n0", "n1", 0]["about"]["gradient"]
    assert words["local"].startswith("local, target label")
    assert "target" not in words[None]


class Told(Recorder):
    """Keeps the description of the newest run."""

    description: ClassVar[RunDescription]

    def __init__(self, directory: Path) -> None:
        pass

    def begin(self, description: RunDescription) -> None:
        Told.description = description


@pytest.mark.parametrize("parts", [None, {"a": 0, "b": 1}])
def test_a_run_is_described_by_its_facts(parts: dict[str, int] | None, tmp_path: Path) -> None:
    agents = {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}}
    channel = {"from": "a", "to": "b", "link": {"delay": 1}}
    scenario = scenario_of(agents, [channel], steps=70, telemetry={"recorders": [Told], "period": 7})
    with Simulation(scenario, seed=3, parts=parts, logdir=tmp_path / "run") as simulation:
        simulation.step()
    found = Told.description
    assert found.hparams == {"scenario": "scene", "seed": 3}
    assert (found.until, found.start_step, found.period) == (70, 0, 7)
    assert dict(found.graph.nodes(data="part")) == (parts or {"a": None, "b": None})
