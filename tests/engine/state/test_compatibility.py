"""Restoring: what is wrong with a checkpoint, or with its use, is named; good data are never called damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.engine.step import backends
from antiphon.errors import ResourceError, RunError
from antiphon.scenarios import Scenario
from tests.engine.numbers import equal, parameters
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
    "an agent of another name": (replace_c, "agents: the scenario has 'd', the state has not"),
    "a wider network": (
        lambda d: d["agents"]["b"].update(network={"kind": "mlp", "hidden": [6]}),
        r"agent 'b': parameter 0.weight is \[5, 4\] in the state and \[6, 4\] in the scenario",
    ),
    "another batch": (
        lambda d: d["training"].update(batch=8),
        r"signal 'image': value is \[4, 1, 8, 8\] in the state and \[8, 1, 8, 8\]",
    ),
    "an agent that does not learn": (lambda d: d["agents"]["b"].update(learn=False), r"agent 'b', .*`learn`"),
    "another optimiser": (
        lambda d: d["training"].update(optimiser={"kind": "sgd", "lr": 0.1}),
        "agent 'a', optimiser: the state has 'mean', the scenario has not",
    ),
    "another coupling": (
        lambda d: d["channels"][0].update(coupling="locked"),
        "channels with predictors: the state has 'a->b', the scenario has not",
    ),
    "another predictor": (
        lambda d: d["channels"][0].update(gradient={"kind": "mlp", "hidden": [3]}),
        "channel 'a->b': predictors, parameters: the scenario has",
    ),
    "one more channel": (
        lambda d: d["channels"].append({"from": "a", "to": "c", "size": 4}),
        "channels: the scenario has 'a->c', the state has not",
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


def test_agents_that_learn_with_others_are_told_from_those_that_learn_alone(tmp_path: Path) -> None:
    def coupled(coupling: str) -> Scenario:
        return scenario(lambda d: [channel.update(coupling=coupling) for channel in d["channels"]])

    saved = Simulation(coupled("locked")).save(tmp_path / "point")
    expected = "agents that learn together: the state has 1 groups of them, the scenario 3"
    with pytest.raises(RunError, match=expected):
        Simulation.load(saved, coupled("detached"))


def test_a_state_that_is_refused_changes_nothing(saved: Path) -> None:
    ours = Simulation(scenario(OTHERS["one more channel"][0]), seed=1)
    before = parameters(ours, "a")
    env = checkpoint.copy_tree(ours.state_dict()["env"])
    with pytest.raises(RunError, match="channels: the scenario has 'a->c'"):
        ours.load_state_dict(Simulation.load(saved).state_dict())
    assert (ours.now, ours.seed) == (0, 1)
    assert ours.state_dict()["env"] == env
    assert equal(before, parameters(ours, "a"))


def test_a_defect_while_restoring_stays_what_it_is(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(backends, "load_messages", broken)
    with pytest.raises(RunError, match=r"no 'ours'.* report a defect") as caught:
        Simulation.load(saved)
    assert isinstance(caught.value.__cause__, KeyError)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("place", ["load_file", "load_messages"])
def test_too_little_memory_while_restoring_is_said(
    place: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(backends if place == "load_messages" else checkpoint, place, full)
    with pytest.raises(ResourceError, match="out of memory") as caught:
        Simulation.load(saved)
    assert "damaged" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_manifest_without_its_own_checksum_is_read(saved: Path) -> None:
    """Older checkpoints have none."""
    path = saved / "state.json"
    text = path.read_text()
    at = text.index(', "manifest_sha256"')
    path.write_text(text[:at] + "}")
    assert Simulation.load(saved).now == 3


def test_a_changed_number_in_the_manifest_is_damage(saved: Path) -> None:
    path = saved / "state.json"
    path.write_text(path.read_text().replace('"step": 3', '"step": 4'))
    with pytest.raises(
        RunError, match=r"state\.json is not what was written \(checksum\): the checkpoint is damaged"
    ):
        Simulation.load(saved)
