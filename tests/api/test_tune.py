"""Trials of Ray Tune (antiphon/tune.py): the protocol of its `Trainable`, without Ray; and with it, where it is installed."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import antiphon
from tests.contracts.twins import differences, facts
from tests.engine.numbers import one_line

VALUES = {"depth": 2, "width": 8, "batch": 8}


class Trainable:
    """Calls what Ray documents of a subclass of `ray.tune.Trainable`, in the order that it documents."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.setup(config)  # type: ignore[attr-defined]


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class of trials of 20 steps, 5 in an iteration."""
    monkeypatch.setitem(sys.modules, "ray.tune", SimpleNamespace(Trainable=Trainable))  # type: ignore[arg-type]
    return antiphon.tune.trainable("digits-mlp", every=5, values=VALUES, steps=20)


def alone(steps: int, lr: float, seed: int = 0) -> antiphon.Simulation:
    scenario = antiphon.load("digits-mlp").resolve(values={**VALUES, "lr": lr}).with_training(steps=20)
    simulation = antiphon.Simulation(scenario, seed=seed)
    simulation.run(steps)
    return simulation


def same(one: antiphon.Simulation, other: antiphon.Simulation) -> bool:
    """Whether two simulations are equal to the bit, but for their events' texts."""
    found = [{**facts(each), "events": None} for each in (one, other)]
    return not list(differences(*found, tolerance=0.0))


def test_it_is_a_module_that_can_be_imported_by_name() -> None:
    assert importlib.import_module("antiphon.tune") is antiphon.tune


def test_an_iteration_takes_steps_of_the_run_and_reports_its_score(trial: Any) -> None:
    one, plain = trial({"lr": 0.03, "seed": 4}), alone(10, 0.03, seed=4)
    results = [one.step(), one.step()]
    accuracy = plain.evaluate("validation").accuracy
    assert results[1] == {"accuracy": accuracy, "steps": 10, "done": False}
    assert same(one.simulation, plain)
    assert [one.step()["done"], one.step()["done"]] == [False, True]


def test_a_checkpoint_continues_to_the_bit_and_in_another_trial_with_its_values(
    trial: Any, tmp_path: Path
) -> None:
    one, other = trial({"lr": 0.03}), trial({"lr": 0.1})
    one.step()
    one.save_checkpoint(str(tmp_path))
    one.step()
    one.load_checkpoint(str(tmp_path))
    assert one.step()["steps"] == 10
    assert same(one.simulation, alone(10, 0.03))
    other.load_checkpoint(str(tmp_path))
    other.step()
    plain = alone(5, 0.03)
    for name in ("*", "*->*"):
        plain.set(f"{name}.learning_rate", 0.1)
    plain.run(5)
    assert same(other.simulation, plain)
    wide = trial({"lr": 0.03, "width": 9})
    with one_line("hidden.*cannot vary within a population", antiphon.ScenarioError):
        wide.load_checkpoint(str(tmp_path))


def test_a_process_that_is_used_again_begins_anew(trial: Any) -> None:
    one = trial({"lr": 0.03})
    one.step()
    assert one.reset_config({"lr": 0.1, "width": 4})
    fresh = trial({"lr": 0.1, "width": 4})
    assert one.step() == fresh.step()
    assert same(one.simulation, fresh.simulation)


def test_a_trial_that_diverges_reports_the_worst_and_may_continue_from_another(
    trial: Any, tmp_path: Path
) -> None:
    bad, good = trial({"lr": 1e30}), trial({"lr": 0.03})
    good.step()
    good.save_checkpoint(str(tmp_path))
    assert [bad.step()["accuracy"] for _ in range(3)] == [-math.inf] * 3
    assert bad.step() == {"accuracy": -math.inf, "steps": 20, "done": True}
    bad.reset_config({"lr": 0.1})
    bad.load_checkpoint(str(tmp_path))
    assert bad.step()["accuracy"] > 0


def test_a_trial_ends_early_where_its_run_would(trial: Any) -> None:
    """Ray Tune steps it no further once it is done."""

    def patient(lr: float = 0.3) -> antiphon.Scenario:
        scenario = antiphon.load("digits-mlp").resolve(values={**VALUES, "lr": lr})
        return scenario.with_training(steps=60, evaluate={"period": 2, "patience": {"loss": 1}})

    plain = antiphon.Simulation(patient())
    plain.run(progress=False)
    one = antiphon.tune.trainable(patient, every=3)({})
    result = one.step()
    while not result["done"]:
        result = one.step()
    assert result["steps"] == one.simulation.now == plain.now < 60
    assert "has not improved" in one.simulation.stop_reason


def test_what_is_missing_is_named(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with one_line("no parameter 'rate'", antiphon.ScenarioError):
        trial({"rate": 0.1})
    with one_line("trainable: every=0; must be a whole number, at least 1", antiphon.ScenarioError):
        antiphon.tune.trainable("digits-mlp", every=0)
    monkeypatch.setitem(sys.modules, "ray.tune", None)  # type: ignore[arg-type]
    with one_line(r"tune: Ray Tune is not installed; pip install 'antiphon\[tune\]'", antiphon.RunError):
        antiphon.tune.trainable("digits-mlp", every=5)


@pytest.mark.long
@pytest.mark.ray
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
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert found.num_errors == 0
    scores = {one.config["lr"]: one.metrics["accuracy"] for one in found}
    assert scores == {lr: alone(20, lr).evaluate("validation").accuracy for lr in scores}
