"""Scores of finished runs: kept beside them, and only those of the right number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.base.files import read_json, write_json
from antiphon.errors import ScenarioError
from antiphon.jobs.studies.scoring import Finished, Scoring, add_scores, kept_scores, metrics_of
from antiphon.scenarios import load
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.training import less_is_better, on_validation

DOCUMENT = "study: two\nscenario: digits-mlp\nmetric: {}\nbudgets: {{small: {{steps: 1, seeds: 1}}}}\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of four steps."""
    scenario = load("digits-mlp").resolve(None, {"depth": 2, "width": 8, "batch": 16, "steps": 4})
    with Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run()
    return tmp_path / "run"


def test_metrics_are_means_over_readouts_those_of_agents_and_of_the_environment() -> None:
    agents: dict[str, dict[str, Any]] = {
        "a": {"accuracy": 0.5, "loss": 1.0, "updates": 9.0},
        "b": {"accuracy": 0.7, "loss": 3.0},
        "c": {"error": 4.0, "loss": None},
    }
    env = {"solved": 3.0, "bits": 0.1, "loss": 7.0, "quiet": None}
    result = {"readout": ["a", "b"], "agents": agents, "env": env, "exit": "done"}
    found = Finished(result, {}).metrics(Scoring())
    assert found == pytest.approx(
        {"accuracy": 0.6, "error": 0.4, "loss": 2.0, "solved": 3.0, "bits": 0.1}
        | {"a.accuracy": 0.5, "a.error": 0.5, "a.loss": 1.0, "b.accuracy": 0.7, "b.error": 0.3, "b.loss": 3.0}
        | {"c.error": 4.0}
    )
    assert Finished(result, {}).known_metrics.keys() - found.keys() == {"quiet", "c.loss"}
    assert Finished(result | {"exit": "diverged"}, {}).metrics(Scoring()) == {}
    scoring = Scoring("validation")
    world = Finished(result | {"env": {"scored": 2.0}}, {scoring.name: {"loss": 1.0}})
    assert [world.metrics(of)["scored"] for of in (Scoring(), scoring)] == [2.0, 2.0]
    mixed = metrics_of(["a", "c"], agents)  # as result.json has them
    assert (mixed["accuracy"], mixed["error"], mixed["loss"]) == (0.5, 4.0, None)


def test_metrics_of_several_objectives_have_their_names() -> None:
    agents = {"a": {"loss": 1.0, "label_accuracy": 0.5, "box_loss": 0.5, "policy": 2.0}, "b": {"loss": 2.0}}
    found = metrics_of("a", agents)
    assert found.keys() - {"b.loss"} == {
        f"{of}{name}" for name in agents["a"] if name != "policy" for of in ("", "a.")
    }
    study = StudySpec.from_yaml(DOCUMENT.format("[a.label_accuracy, a.box_loss]"), "two.yaml")
    assert study.metric == ("a.label_accuracy", "a.box_loss")
    assert [less_is_better(metric) for metric in study.metric] == [False, True]
    assert all(map(on_validation, study.metric))
    with pytest.raises(ScenarioError, match=r"unknown metric .a.label_acuracy.; write AGENT\.METRIC"):
        StudySpec.from_yaml(DOCUMENT.format("a.label_acuracy"), "two.yaml")


def test_scores_are_those_of_the_simulation_and_are_kept(run: Path) -> None:
    found = add_scores(run, 4, [Scoring("validation")])
    with Simulation.load(run) as simulation:
        assert found["validation"]["accuracy"] == simulation.evaluate("validation").accuracy
    assert kept_scores(run, 4) == found
    changed = read_json(run / "evaluations.json")
    changed["scores"]["validation"]["loss"] = 7.0
    write_json(run / "evaluations.json", changed)
    assert add_scores(run, 4, [Scoring("validation")])["validation"]["loss"] == 7.0
    assert kept_scores(run, 5) == {}  # of another number of steps
    (run / "evaluations.json").unlink()
    assert add_scores(run, 4, [Scoring("validation")]) == found


def test_over_links_as_they_ran_what_is_lost_counts(tmp_path: Path) -> None:
    values = {"agents": 2, "delay": 1, "hold": 3, "part": 6, "width": 16, "drop": 0.5}
    scenario = load("lossy").resolve("without_si", values).with_training(steps=100)
    with Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run()
    found = add_scores(tmp_path / "run", 100, [Scoring(), Scoring(links="as_run")])
    assert list(found) == ["test", "test, as_run"]
    assert found["test"]["loss"] < found["test, as_run"]["loss"]
