"""Scores of finished runs: kept beside them, of the right number of steps, and what a linear model can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import begin
from antiphon.engine.simulation import Simulation
from antiphon.engine.studies.scoring import Scoring, add_scores, figures, kept_scores, least_loss
from antiphon.errors import RunError, ScenarioError
from antiphon.manifests import read_cache, write_checked
from antiphon.scenarios import load


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of four steps."""
    values = {"depth": 2, "width": 8, "batch": 16}
    begin(Request(template=load("digits-mlp"), values=values, steps=4), tmp_path / "run").train()
    return tmp_path / "run"


def test_figures_are_means_over_readouts() -> None:
    agents = {"a": {"accuracy": 0.5, "loss": 1.0}, "b": {"accuracy": 0.7, "loss": 3.0}, "c": {"error": 4.0}}
    assert _of_readouts(figures(["a", "b"], agents)) == pytest.approx(
        {"accuracy": 0.6, "error": 0.4, "loss": 2.0}
    )
    assert _of_readouts(figures("c", agents)) == {"error": 4.0}
    assert _of_readouts(figures(["a", "c"], agents)) == {}


def test_figures_are_of_every_agent_and_of_the_environment_too() -> None:
    agents: dict[str, dict[str, Any]] = {
        "a": {"accuracy": 0.75, "loss": 1.0, "updates": 9.0},
        "c": {"bits": 0.5, "loss": None},
    }
    found = figures("a", agents, {"solved": 3.0, "bits": 0.1, "loss": 7.0, "quiet": None})
    own = {"a.accuracy": 0.75, "a.error": 0.25, "a.loss": 1.0, "c.bits": 0.5}
    assert found == {"accuracy": 0.75, "error": 0.25, "loss": 1.0, "solved": 3.0, "bits": 0.1} | own


def _of_readouts(found: dict[str, float]) -> dict[str, float]:
    return {metric: value for metric, value in found.items() if "." not in metric}


def test_scores_are_what_the_simulation_says_and_are_kept(run: Path) -> None:
    found = add_scores(run, 4, [Scoring("validation"), Scoring("train")])
    with Simulation.load(run) as simulation:
        assert found["validation"]["accuracy"] == simulation.evaluate("validation").accuracy
        assert found["train"]["loss"] == simulation.evaluate("train").loss
    assert kept_scores(run, 4) == found
    changed = read_cache(run / "evaluations.json")
    changed["scores"]["train"]["loss"] = 7.0
    write_checked(run / "evaluations.json", changed)
    assert add_scores(run, 4, [Scoring("train")])["train"]["loss"] == 7.0


def test_scores_of_another_number_of_steps_are_of_no_use(run: Path) -> None:
    add_scores(run, 4, [Scoring("validation")])
    assert kept_scores(run, 5) == {}
    (run / "evaluations.json").write_text("[")
    with pytest.raises(RunError, match=r"evaluations.json: is not what was written .*; delete it"):
        kept_scores(run, 4)


def test_names_tell_scorings_apart() -> None:
    names = [
        Scoring("validation").name,
        Scoring(links="as_run").name,
        Scoring(links="as_run", drop=0.2).name,
        Scoring("train", excess=True).name,
    ]
    assert names == ["validation", "test, as_run", "test, as_run, drop 0.2", "train, excess"]


def test_the_least_loss_of_a_linear_model_is_below_that_of_a_run(run: Path) -> None:
    found = add_scores(run, 4, [Scoring("train", excess=True)])["train, excess"]
    with Simulation.load(run) as simulation:
        least = least_loss(simulation, "train")
    assert found["excess_loss"] == pytest.approx(found["loss"] - least)
    assert 0 <= least < found["loss"]


def test_the_least_loss_is_of_one_readout(run: Path) -> None:
    scenario = load("corporation").resolve(values={"agents": 6, "readouts": 2, "neighbours": 2})
    with Simulation(scenario) as simulation, pytest.raises(ScenarioError, match="one readout, not of 2"):
        least_loss(simulation, "train")


def test_over_links_as_they_ran_what_is_lost_counts(tmp_path: Path) -> None:
    values = {"agents": 2, "delay": 1, "hold": 3, "part": 6, "width": 16}
    request = Request(template=load("lossy"), variant="locked", values=values, steps=300)
    begin(request, tmp_path / "run").train()
    wanted = [
        Scoring(),
        Scoring(links="as_run", drop=0.0),
        Scoring(links="as_run", drop=0.5),
        Scoring(links="as_run", drop=1.0),
    ]
    found = add_scores(tmp_path / "run", 300, wanted)
    perfect, none_lost, half_lost, all_lost = (found[scoring.name]["loss"] for scoring in wanted)
    assert none_lost == pytest.approx(perfect)
    assert none_lost < half_lost < all_lost
