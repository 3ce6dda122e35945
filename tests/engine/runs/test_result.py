"""What a result holds: every objective's metric, means over readouts, what the environment says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.run_writer import over
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import load


def result_of_run(path: Path, name: str = "digits-mlp", **values: Any) -> dict[str, Any]:
    scenario = load(name).resolve(values={"steps": 4, **values})
    with Simulation(scenario, logdir=path) as simulation:
        simulation.run()
    found: dict[str, Any] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return found


def test_a_classifier_has_accuracy_and_no_error_or_bits(tmp_path: Path) -> None:
    found = result_of_run(tmp_path / "run", depth=2, width=8, batch=16)
    assert found["accuracy"] == found["agents"]["n1"]["accuracy"] >= 0
    assert (found["error"], found["bits"], found["env"]) == (None, None, {})
    assert not {"accuracy", "loss"} & found["agents"]["n0"].keys()


def test_a_regression_has_an_error(tmp_path: Path) -> None:
    found = result_of_run(
        tmp_path / "run", "hyperplane", loss="regression", target="onehot", size=2, points=20
    )
    (name,) = [name for name, agent in found["agents"].items() if "loss" in agent]
    assert found["error"] is None  # of the test split, which there is none of
    assert found["agents"][name]["error"] is None
    assert "accuracy" not in found["agents"][name]


def test_what_the_environment_says_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"solved": 3.0, "difficulty": float("nan")}
    monkeypatch.setattr("antiphon.envs.base.TorchVectorEnv.figures", lambda env: said)
    found = result_of_run(tmp_path / "run", depth=2, width=8, batch=16)
    assert found["env"] == {"solved": 3.0, "difficulty": None}


def test_means_are_over_the_readouts_that_have_it() -> None:
    agents: dict[str, dict[str, Any]] = {
        "a": {"bits": 1.0},
        "b": {"bits": 3.0, "error": 0.5},
        "c": {"error": None},
    }
    assert over(["a", "b", "c"], "bits", agents) == 2.0
    assert over(["a", "b", "c"], "error", agents) == 0.5
    assert over(["a", "c"], "accuracy", agents) is None
