"""Studies carried out: runs kept and resumed, scores, tables written, processes stopped, failures in one line."""

from __future__ import annotations

import csv
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import antiphon
from antiphon import Simulation, study
from antiphon import load as load_scenario
from antiphon.base.errors import ScenarioError
from antiphon.base.files import read_json, write_json
from antiphon.jobs.scheduler import summary_of
from antiphon.jobs.studies.scoring import Finished, Scoring, add_scores, kept_scores, metrics_of
from antiphon.scenarios import load
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.training import is_of_env, less_is_better
from tests.kit.commands import Commands

SMALL = "--set depth=2 --set width=8 --set batch=16"
TINY = f"{SMALL} --steps 8"
DOCUMENT = """
study: toy
scenario: digits-mlp
variants: [locked, detached]
set: {width: 8, batch: 16}
grid: {depth: [2, 3]}
tune: {lr: [0.000001, 0.01]}
metric: error
budgets: {small: {steps: 30, seeds: 1}}
"""


def failed(cli: Commands, words: str) -> str:
    """The line with which a study fails."""
    assert cli.code(words) == 2
    (line,) = cli.err.splitlines()
    return line


@pytest.mark.long
def test_all_variants_run_tables_are_written_and_what_is_finished_is_kept(here: Path, cli: Commands) -> None:
    cli(f"study digits-mlp {TINY} -v locked --seeds 1 --jobs 1 --logdir study")
    before = (here / "study/locked-s0/metrics.csv").stat().st_mtime_ns
    words = f"study digits-mlp {TINY} -v locked -v detached --seeds 2 --jobs 1 --logdir study"
    result = cli.json(words)
    assert (here / "study/locked-s0/metrics.csv").stat().st_mtime_ns == before
    assert [line.partition(": accuracy")[0] for line in cli.err.splitlines()[:2]] == ["locked", "detached"]
    runs = {"locked-s0", "locked-s1", "detached-s0", "detached-s1"}
    assert {path.name for path in (here / "study").iterdir()} == runs | {
        "study.json",
        "table.csv",
        "table.md",
    }
    with (here / "study/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["n"]) for row in rows] == [("locked", "2"), ("detached", "2")]
    scores = [read_json(here / f"study/locked-s{seed}/result.json")["accuracy"] for seed in (0, 1)]
    assert float(rows[0]["mean"]) == pytest.approx(sum(scores) / 2)
    text = (here / "study/table.md").read_text()
    assert text.startswith("# digits-mlp: 8 steps, 2 seeds\n\n| variant | accur")
    assert cli.json(words) == result
    assert cli.err.count(" (kept)") == 2
    other = words.replace("detached", "local").replace("width=8", "width=9")
    assert "locked-s0: holds another run (scenario: " in failed(cli, other)
    assert (here / "study/table.md").read_text() == text
    assert not (here / "study/local-s0").exists()


@pytest.mark.long
def test_a_document_is_tuned_on_validation_and_reported_on_test(here: Path, cli: Commands) -> None:
    (here / "toy.yaml").write_text(DOCUMENT)
    result = cli.json("study toy.yaml --jobs 1 --logdir s")
    lines, runs = result["lines"], list((here / "s").glob("*-s0"))
    assert [(line["point"], line["variant"]) for line in lines] == [
        ({"depth": depth}, variant) for depth in (2, 3) for variant in ("locked", "detached")
    ]
    assert len(runs) == 8
    assert (lines[0]["tuned"], lines[0]["runs"]) == ({"lr": 0.01}, "depth-2-locked-lr-0.01")
    place = here / "s/depth-2-locked-lr-0.01-s0"
    assert lines[0]["mean"]["value"] == pytest.approx(1 - read_json(place / "result.json")["accuracy"])
    chosen, other = (kept_scores(here / f"s/depth-2-locked-lr-{rate}-s0", 30) for rate in ("0.01", "1e-06"))
    assert lines[0]["validation"] == pytest.approx(chosen["validation"]["error"])
    assert lines[0]["validation"] < other["validation"]["error"]
    assert "| depth | variant | lr | error % |" in (here / "s/table.md").read_text()
    before = (place / "metrics.csv").stat().st_mtime_ns
    (place / "evaluations.json").unlink()
    assert cli.json("study toy.yaml --jobs 1 --logdir s") == result  # scored again, not run again
    assert (place / "metrics.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_signal_stops_a_study_with_checkpoints(here: Path, cli: Commands, jobs: int) -> None:
    """As soon as all that run at a time have written a row of metrics."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            tables = here.glob("s/*/metrics.csv")
            if sum(path.read_text().count("\n") > 1 for path in tables) >= 2 * jobs:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    words = f"study digits-mlp {SMALL} --steps 200000 -v detached -v locked --seeds 2 --logdir s"
    try:
        assert cli.code(f"{words} --jobs {jobs}") == 143
    finally:
        ended.set()
        watcher.join()
    names = sorted(path.name for path in (here / "s").glob("*-s?"))
    assert names == ["detached-s0", "detached-s1", "locked-s0", "locked-s1"][: 2 * jobs]
    assert len(list(here.glob("s/*/checkpoints/step-*/state.json"))) == 2 * jobs


@pytest.mark.long
def test_modules_that_a_function_makes_begin_otherwise_in_each_seed_over_the_same_data(
    tmp_path: Path,
) -> None:
    def build() -> antiphon.Scenario:
        x = torch.randn(40, 5)
        goal = {"kind": "classification", "target": "y"}
        agents = {"a": {"observes": ["x"], "network": torch.nn.Linear(5, 2), "objective": goal}}
        env = antiphon.envs.from_tensors(x=x, y=(x[:, 0] > 0).long())
        still = {"batch": 8, "steps": 2, "optimiser": {"kind": "sgd", "lr": 1e-12}}
        return antiphon.Scenario(scenario="own", env=env, agents=agents, training=still)

    def begun(scenario: Any, folder: str) -> list[torch.Tensor]:
        table = antiphon.study(scenario, seeds=2, logdir=tmp_path / folder)
        weights = []
        for seed in range(2):
            with Simulation.load(next((tmp_path / folder).glob(f"*-s{seed}")), scenario=build()) as run:
                weights.append(run.agents["a"].parameters["module.weight"].detach().clone())
        assert antiphon.study(scenario, seeds=2, logdir=tmp_path / folder).result == table.result
        return weights

    for seed in range(2):
        torch.manual_seed(seed)
        torch.randn(40, 5)
        right = torch.nn.Linear(5, 2).weight.detach()
        weights = begun(build, f"function-{seed}")
        torch.testing.assert_close(weights[seed], right, atol=1e-6, rtol=0)
    weights = begun(build(), "object")
    torch.testing.assert_close(*weights, atol=1e-6, rtol=0)


# --- scores ----------------------------------------------------------------------------------------------


SCORED = "study: two\nscenario: digits-mlp\nmetric: {}\nbudgets: {{small: {{steps: 1, seeds: 1}}}}\n"


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
    study = StudySpec.from_yaml(SCORED.format("[a.label_accuracy, a.box_loss]"), "two.yaml")
    assert study.metric == ("a.label_accuracy", "a.box_loss")
    assert [less_is_better(metric) for metric in study.metric] == [False, True]
    assert not any(map(is_of_env, study.metric))
    with pytest.raises(ScenarioError, match=r"unknown metric .a.label_acuracy.; write AGENT\.METRIC"):
        StudySpec.from_yaml(SCORED.format("a.label_acuracy"), "two.yaml")


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


# --- from Python -----------------------------------------------------------------------------------------


TINY_STUDY = {"depth": 2, "width": 8, "batch": 16}


@pytest.mark.long
def test_it_is_the_commands_table(here: Path, cli: Commands) -> None:
    words = "study digits-mlp --set depth=2 --set width=8 --set batch=16 --variant locked --variant detached"
    printed = cli(words, "--steps 3 --seeds 2 --jobs 1 --logdir line")
    settings = {"variants": ["locked", "detached"], "seeds": 2, "steps": 3}
    table = antiphon.study("digits-mlp", values=TINY_STUDY, **settings, logdir="line")
    shown, place = str(table).rsplit("\n\n", 1)
    assert printed.split()[: len(shown.split())] == shown.split()  # the same runs: not a digit differs
    assert place == "table        line/table.md, table.csv"
    assert repr(table) == str(table)
    other = study(load_scenario("digits-mlp"), values=TINY_STUDY, **settings, logdir=here / "python")
    assert other.directory == here / "python"
    frame = other.to_pandas()
    with (here / "python/table.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert list(frame.columns) == list(written[0])
    assert [str(value) for value in frame["mean"]] == [row["mean"] for row in written]


# --- several seeds --------------------------------------------------------------------------------------


def of_seed(accuracy: float, exit: str = "done", **env: float | None) -> dict[str, Any]:
    return {"exit": exit, "accuracy": accuracy, "error": None, "bits": None, "loss": 1.0, "env": env}


def test_a_summary_is_of_the_seeds_that_came_to_their_end() -> None:
    found = summary_of(
        [
            of_seed(0.5, solved=4.0),
            of_seed(0.7, solved=None),
            of_seed(0.1, "diverged"),
            of_seed(0.2, "stopped"),
        ]
    )
    assert list(found) == ["accuracy", "loss", "solved"]
    assert (found["accuracy"]["mean"], found["accuracy"]["n"]) == (pytest.approx(0.6), 2)
    assert (found["solved"]["mean"], found["solved"]["n"], found["solved"]["low"]) == (4.0, 1, None)
    assert summary_of([of_seed(0.5, "stopped")])["accuracy"]["n"] == 1
    assert summary_of([of_seed(0.5, "diverged")]) == {}
