"""Restoring: what is wrong with a checkpoint, or with its use, is named; good data are never called damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon import RunError, Scenario, Simulation
from tests.contracts.twins import differences, facts
from tests.engine.scenes import CLASSIFY

Document = dict[str, Any]


def document() -> Document:
    agents: Document = {name: {"network": {"kind": "mlp", "hidden": [5]}} for name in "abc"}
    agents["a"]["observes"] = ["image"]
    agents["c"]["objective"] = CLASSIFY
    return {
        "scenario": "restored",
        "env": {"id": "antiphon/Digits-v0"},
        "agents": agents,
        "channels": [{"from": "a", "to": "b", "size": 4}, {"from": "b", "to": "c", "size": 4}],
        "training": {"batch": 4, "optimiser": {"kind": "adam", "lr": 0.01}},
    }


def scenario(change: Callable[[Document], Any] = lambda d: None) -> Scenario:
    found = document()
    change(found)
    return Scenario.model_validate(found)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    run = Simulation(scenario())
    run.run(3)
    return run.save(tmp_path / "point")


def replace_c(d: Document) -> None:
    d["agents"]["d"] = d["agents"].pop("c")
    d["channels"][1]["to"] = "d"


OTHERS: dict[str, tuple[Callable[[Document], Any], str]] = {
    "an agent of another name": (replace_c, "channels.b->d: nothing in the state, there in the scenario"),
    "a wider network": (
        lambda d: d["agents"]["b"].update(network={"kind": "mlp", "hidden": [6]}),
        r"agents.b.parameters.0.weight: \[5, 4\] of float32 in the state, \[6, 4\] of float32 in the scenario",
    ),
    "another batch": (
        lambda d: d["training"].update(batch=8),
        r"signals.image: \[4, 1, 8, 8\] of float32 in the state, \[8, 1, 8, 8\]",
    ),
    "another coupling": (
        lambda d: d["channels"][0].update(coupling="locked"),
        "synthetic gradients.a->b: there in the state, nothing in the scenario",
    ),
    "one more channel": (
        lambda d: d["channels"].append({"from": "a", "to": "c", "size": 4}),
        "channels.a->c: nothing in the state, there in the scenario",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_scenario_names_the_first_difference(other: str, saved: Path) -> None:
    change, expected = OTHERS[other]
    with pytest.raises(RunError, match=expected) as caught:
        Simulation.load(saved, scenario(change))
    line = str(caught.value)
    assert line.startswith(f"{saved}: ")
    assert line.endswith("load the state into the scenario that it was saved from")
    assert "\n" not in line
    assert "is damaged" not in line
    assert "delete" not in line


def test_a_state_that_is_refused_changes_nothing(saved: Path) -> None:
    ours, twin = (Simulation(scenario(OTHERS["one more channel"][0]), seed=1) for _ in range(2))
    with pytest.raises(RunError, match=r"channels.a->c: nothing in the state, there in the scenario"):
        ours.running.load_state_dict(Simulation.load(saved).running.state_dict())
    assert (ours.now, ours.seed) == (0, 1)
    for each in (ours, twin):
        each.run(3)
    assert not list(differences(facts(ours), facts(twin), tolerance=0.0))
