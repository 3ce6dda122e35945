"""Settings given as numbers and arrays of numpy are those of Python: nothing else is trained, saved or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import antiphon

TINY = {"width": 8, "depth": 2, "batch": 8}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(**settings: Any) -> dict[str, Any]:
    values = {"seed": 3, "steps": 2, "lr": 0.125, **settings}
    scenario = antiphon.load("digits-mlp").resolve(values={**TINY, "lr": values["lr"]})
    with antiphon.Simulation(scenario, seed=values["seed"], logdir="run", exist="overwrite") as simulation:
        simulation.run(steps=values["steps"], progress=values.get("progress", False))
        simulation.set("n0.learning_rate", values["lr"])
        assert simulation.events[-1] == (2, "n0.learning_rate is 0.125 from here on")
        return {
            name: {key: tensor.clone() for key, tensor in agent.parameters.items()}
            for name, agent in simulation.agents.items()
        }


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    "changed",
    [
        {"seed": np.int64(3)},
        {"seed": np.array(3)},
        {"steps": np.int32(2)},
        {"lr": np.float32(0.125)},
        {"lr": np.float64(0.125)},
        {"progress": np.bool_(False)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_run_is_the_same(changed: dict[str, Any], here: Path) -> None:
    expected, found = weights(), weights(**changed)
    for name, tensors in expected.items():
        assert all((tensors[key] == found[name][key]).all() for key in tensors)
    assert json.loads((here / "run/run.json").read_text())["seed"] == 3


def test_a_scenario_is_the_same() -> None:
    template = antiphon.load("digits-mlp")
    numbers = template.resolve(values={"width": np.int64(8), "depth": np.uint8(2), "lr": np.float64(0.5)})
    assert numbers == template.resolve(values={"width": 8, "depth": 2, "lr": 0.5})
    scenario = template.resolve(values=TINY)
    assert scenario.with_training(steps=np.int64(7)) == scenario.with_training(steps=7)
    for width in (np.float64(8.5), np.bool_(True), np.array([8])):
        with pytest.raises(antiphon.ScenarioError, match="width"):
            template.resolve(values={"width": width})


def test_parts_are_the_same() -> None:
    scenario = antiphon.load("digits-mlp").resolve(values=TINY)
    with antiphon.Simulation(scenario, parts={"count": np.int64(1)}, logdir="parts") as simulation:
        simulation.run(steps=1)
        assert simulation.now == 1


def test_a_placement_and_its_bounds_are_the_same(here: Path) -> None:
    """Also in run.json, which has no numbers of numpy."""
    scenario = antiphon.load("digits-mlp").resolve(values={**TINY, "delay": 1})
    whole: Any = {"placement": {"n0": 0, "n1": 1}, "mode": "free", "free": {"queue": 4}}
    given: Any = {
        "placement": {"n0": np.int64(0), "n1": np.uint8(1)},
        "mode": "free",
        "free": {"queue": np.int64(4)},
    }
    for parts in ({**whole, "cluster": "two-cores"}, {**given, "cluster": "two-cores"}):
        seconds = np.array([1, 2]) if parts["placement"] is given["placement"] else [1, 2]
        parts["step_seconds"] = seconds
        with antiphon.Simulation(scenario, parts=parts, logdir="parts", exist="overwrite") as simulation:
            simulation.run(steps=1)
        found = json.loads((here / "parts/run.json").read_text())
        assert found["virtual"]["step_seconds"] == [1, 2]
        assert (found["virtual"]["free"]["queue"], found["parts"]["placement"]) == (4, {"n0": 0, "n1": 1})


def test_a_population_is_the_same() -> None:
    sizes: dict[str, Any] = {"members": np.int64(2), "steps": np.int64(2), "seed": np.int64(1)}
    members = antiphon.population("digits-mlp", vary={"lr": np.linspace(0.25, 0.5, 2)}, values=TINY, **sizes)
    assert len(members.result["members"]) == 2
    plain = antiphon.population(
        "digits-mlp", vary={"lr": [0.25, 0.5]}, values=TINY, members=2, steps=2, seed=1
    )
    assert members.lineage == plain.lineage
    stopped = antiphon.population(
        "digits-mlp", vary={"lr": [0.25, 0.5]}, values=TINY, **sizes, until=np.int64(1), jobs=np.int64(1)
    )
    assert [member["steps"] for member in stopped.result["members"]] == [1, 1]


def test_seeds_of_a_population_are_the_same(here: Path) -> None:
    scenario = antiphon.load("digits-mlp").resolve(values=TINY)
    with antiphon.Population(scenario, np.arange(2), logdir="seeds") as population:
        population.run(1)
    assert json.loads((here / "seeds/member-1/run.json").read_text())["together"] == [0, 1]


@pytest.mark.long
def test_a_study_is_the_same() -> None:
    sizes: dict[str, Any] = {"seeds": np.int64(1), "steps": np.int64(2), "jobs": np.int64(1)}
    table = antiphon.study("digits-mlp", variants=["local"], values=TINY, **sizes)
    plain = antiphon.study("digits-mlp", variants=["local"], values=TINY, seeds=1, steps=2, jobs=1)
    assert table.result["lines"][0]["mean"] == plain.result["lines"][0]["mean"]


def test_a_flag_of_an_environment_is_the_same() -> None:
    for flag in (False, np.bool_(False)):
        antiphon.envs.make({"id": "gymnasium/FrozenLake-v1", "is_slippery": flag}, batch=1).close()
