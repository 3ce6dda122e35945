"""Trials of Ray Tune (antiphon/tune.py): what they report, without Ray; and with it, where it is installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import antiphon

VALUES = {"depth": 2, "width": 8, "batch": 8}


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What trials have reported to Ray Tune."""
    found: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "ray.tune", SimpleNamespace(report=found.append))  # type: ignore[arg-type]
    return found


def trial(every: int = 5, **settings: Any) -> Any:
    """Trials of 20 steps."""
    return antiphon.tune.trainable("digits-mlp", every=every, values=VALUES, steps=20, **settings)


def alone(steps: int, lr: float, seed: int = 0) -> antiphon.Simulation:
    scenario = antiphon.load("digits-mlp").resolve(values={**VALUES, "lr": lr}).with_training(steps=20)
    simulation = antiphon.Simulation(scenario, seed=seed)
    simulation.run(steps)
    return simulation


def test_a_trial_reports_the_score_of_its_run_and_ends_with_it(reports: list[dict[str, Any]]) -> None:
    trial(every=8)({"lr": 0.03, "seed": 4})
    assert [report["steps"] for report in reports] == [8, 16, 20]
    accuracies = [alone(steps, 0.03, seed=4).evaluate("validation").accuracy for steps in (8, 20)]
    assert [reports[0], reports[-1]] == [
        {"accuracy": accuracy, "steps": steps} for accuracy, steps in zip(accuracies, (8, 20), strict=True)
    ]


def test_a_trial_ends_early_where_its_run_would(reports: list[dict[str, Any]]) -> None:
    def patient(lr: float = 0.3) -> antiphon.Scenario:
        scenario = antiphon.load("digits-mlp").resolve(values={**VALUES, "lr": lr})
        return scenario.with_training(steps=60, evaluate={"period": 2, "patience": {"loss": 1}})

    plain = antiphon.Simulation(patient())
    plain.run(progress=False)
    antiphon.tune.trainable(patient, every=3)({})
    assert reports[-1]["steps"] == plain.now < 60


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_ray_tune_runs_trials(tmp_path: Path) -> None:
    """It is skipped without the extra `tune`, whose pyarrow is too large for the environment of all other tests."""
    pytest.importorskip("pyarrow")  # Ray itself is imported only where it is restricted, or needed
    tune = importlib.import_module("ray.tune")
    kind = antiphon.tune.trainable("digits-mlp", every=10, values=VALUES, steps=20)
    grid = {"lr": tune.grid_search([0.0001, 0.03])}
    found = tune.Tuner(
        kind,
        param_space=grid,
        tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert found.num_errors == 0
    scores = {one.config["lr"]: one.metrics["accuracy"] for one in found}
    assert scores == {lr: alone(20, lr).evaluate("validation").accuracy for lr in scores}
