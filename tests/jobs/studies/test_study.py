"""Studies carried out: runs kept and resumed, tables written, processes stopped, failures in one line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import antiphon
from antiphon import ScenarioError, Simulation
from antiphon.telemetry.statistics import mean
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
    """The line with which a study fails that has said what it is about to run."""
    assert cli.code(words) == 2
    head, line = cli.err.splitlines()
    assert " runs of " in head or "1 run of " in head
    return line


@pytest.mark.long
def test_all_variants_run_tables_are_written_and_what_is_finished_is_kept(here: Path, cli: Commands) -> None:
    first = cli.json(f"study digits-mlp {TINY} -v locked --seeds 1 --jobs 1 --logdir study")
    before = (here / "study/locked-s0/metrics.csv").stat().st_mtime_ns
    words = f"study digits-mlp {TINY} -v locked -v detached --seeds 2 --jobs 1 --logdir study"
    result = cli.json(words)
    assert result["runs"]["locked-s0"] == first["runs"]["locked-s0"]
    assert (here / "study/locked-s0/metrics.csv").stat().st_mtime_ns == before
    names = ["locked s0", "locked s1", "detached s0", "detached s1"]
    assert [line.partition(": accuracy")[0] for line in cli.err.splitlines()[1:5]] == [
        f"[{i}/4] {name}" for i, name in enumerate(names, 1)
    ]
    runs = {name.replace(" ", "-") for name in names}
    assert {path.name for path in (here / "study").iterdir()} == runs | {
        "study.json",
        "table.csv",
        "table.md",
        "figure.svg",
    }
    with (here / "study/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["n"]) for row in rows] == [("locked", "2"), ("detached", "2")]
    scores = [run["accuracy"] for name, run in result["runs"].items() if name.startswith("locked")]
    assert float(rows[0]["mean"]) == pytest.approx(sum(scores) / 2)
    text = (here / "study/table.md").read_text()
    assert text.startswith("# digits-mlp: 8 steps, 2 seeds\n\n| variant | accur")
    assert cli.json(words) == result
    assert cli.err.count(" (kept)") == 4
    other = words.replace("detached", "local").replace("width=8", "width=9")
    assert "locked-s0: holds another run (width is 8, not 9)" in failed(cli, other)
    assert (here / "study/table.md").read_text() == text
    assert not (here / "study/local-s0").exists()


@pytest.mark.long
def test_a_document_is_tuned_on_validation_and_reported_on_test(here: Path, cli: Commands) -> None:
    (here / "toy.yaml").write_text(DOCUMENT)
    result = cli.json("study toy.yaml --jobs 1 --logdir s")
    lines, runs = result["lines"], result["runs"]
    assert [(line["point"], line["variant"]) for line in lines] == [
        ({"depth": depth}, variant) for depth in (2, 3) for variant in ("locked", "detached")
    ]
    assert len(runs) == 8
    assert (lines[0]["tuned"], lines[0]["runs"]) == ({"lr": 0.01}, "depth-2-locked-lr-0.01")
    chosen = runs["depth-2-locked-lr-0.01-s0"]
    assert lines[0]["mean"]["value"] == pytest.approx(1 - chosen["accuracy"])
    assert lines[0]["validation"] == pytest.approx(chosen["scores"]["validation"]["error"])
    assert lines[0]["validation"] < runs["depth-2-locked-lr-1e-06-s0"]["scores"]["validation"]["error"]
    assert "| depth | variant | lr | error % |" in (here / "s/table.md").read_text()
    place = here / "s/depth-2-locked-lr-0.01-s0"
    before = (place / "metrics.csv").stat().st_mtime_ns
    (place / "evaluations.json").unlink()
    assert cli.json("study toy.yaml --jobs 1 --logdir s") == result  # scored again, not run again
    assert (place / "metrics.csv").stat().st_mtime_ns == before


@pytest.mark.long
def test_several_metrics_are_a_table_each(here: Path, cli: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.envs.base.TorchVectorEnv.metrics", lambda env: {"solved": 2.0})
    (here / "toy.yaml").write_text(DOCUMENT.replace("metric: error\n", "metric: [n1.accuracy, solved]\n"))
    words = "--set depth=2 --set lr=0.01 --jobs 1 --logdir s"
    accuracy, _, solved, _ = cli.json(f"study toy.yaml {words}")["lines"]
    assert [(line["metric"], line["of_env"]) for line in (accuracy, solved)] == [
        ("n1.accuracy", False),
        ("solved", True),
    ]
    assert solved["mean"]["value"] == 2.0
    assert (here / "s/table.md").read_text().count("| variant |") == 2
    with (here / "s/table.csv").open() as file:
        assert [row["metric"] for row in csv.DictReader(file)] == ["n1.accuracy"] * 2 + ["solved"] * 2
    (here / "toy.yaml").write_text(DOCUMENT.replace("metric: error\n", "metric: [n1.accuracy, solvd]\n"))
    assert cli.code(f"study toy.yaml {words}") == 2
    assert (
        "toy.yaml:8: metric: locked: no agent and no environment has a metric 'solvd'; did you mean 'solved'"
        in cli.err
    )


@pytest.mark.parametrize(
    ("scenario", "metric", "fix"),
    [
        ("digits-mlp", "acc", "known: accuracy, error, loss, n3.accuracy"),
        ("digits-mlp", "n2.accuracy", "did you mean 'n3.accuracy'"),
        ("digits-mlp", "bits", "known: accuracy"),
        ("cartpole-team", "rewards", "known: "),
        ("cartpole-team", "accuracy", "known: "),
        ("cartpole-team", "loss", "known: "),
        ("capture-flag", "player0.accuracy", "did you mean 'player0.return'"),
    ],
)
def test_a_metric_that_no_run_has_is_refused_before_one_begins(
    here: Path, cli: Commands, scenario: str, metric: str, fix: str
) -> None:
    head = f"study: toy\nscenario: {scenario}\nvariants: [locked]\nbudgets: {{b: {{steps: 2, seeds: 1}}}}\n"
    Path("s.yaml").write_text(f"{head}metric: {metric}\n")
    line = f"s.yaml:5: metric: locked: no agent and no environment has a metric '{metric}'; {fix}"
    assert cli.code("check s.yaml") == 2
    assert line in cli.err
    assert cli.code("study s.yaml --logdir s") == 2
    assert line in cli.err
    with pytest.raises(ScenarioError, match=f"has a metric '{metric}'"):
        antiphon.study(scenario, variants=["locked"], metric=metric, logdir="s")
    assert not Path("s").exists()


@pytest.mark.long
def test_workers_compute_the_same_numbers(tmp_path: Path) -> None:
    """Also in a precision of matrix products that the program has set. One begins: what is finished is kept."""
    settings: dict[str, Any] = {"variants": ["locked", "detached"], "seeds": 2, "steps": 8}
    settings |= {"values": {"depth": 2, "width": 8, "batch": 16}, "logdir": tmp_path / "study"}
    torch.set_float32_matmul_precision("high")
    lines = []
    for jobs in (1, 2):
        lines.append(antiphon.study("digits-mlp", **settings, jobs=jobs).result["lines"])
        facts = json.loads((tmp_path / "study/locked-s0/run.json").read_text())
        assert (facts["together"], facts["matmul_precision"]) == ([0, 1], "high")
        for run in tmp_path.glob("study/locked-*"):
            shutil.rmtree(run)
    assert [{**line, "seconds": 0} for line in lines[0]] == [{**line, "seconds": 0} for line in lines[1]]


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
    names = sorted(path.name for path in (here / "s").iterdir())
    assert names == ["detached-s0", "detached-s1", "locked-s0", "locked-s1"][: 2 * jobs]
    assert len(list(here.glob("s/*/checkpoints/step-*/state.json"))) == 2 * jobs


def partly_labelled(
    kind: str = "classification", target: str = "rare", lr: float = 0.01
) -> antiphon.Scenario:
    """Two judges, of which the second has a target in 9 of 60 test examples, or is no classifier."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(120, 3, generator=random)
    label = (x[:, 0] > 0).long()
    rare = label.where(torch.arange(120) % 7 == 0, -100)
    env = antiphon.envs.from_tensors(x=x, label=label, rare=rare, y=x[:, 1:2], test=0.5, validation=0.25)
    goals = {"one": {"kind": "classification", "target": "label"}, "other": {"kind": kind, "target": target}}
    agents = {name: {"observes": ["x"], "objective": goal} for name, goal in goals.items()}
    optimiser = {"kind": "adam", "lr": lr}
    return antiphon.Scenario(
        scenario="partly", env=env, agents=agents, training={"batch": 15, "steps": 4, "optimiser": optimiser}
    )


@pytest.mark.long
def test_intervals_and_errors_of_shares_are_over_the_examples_that_have_the_target(tmp_path: Path) -> None:
    metrics = ["accuracy", "one.accuracy", "other.accuracy", "other.error"]
    antiphon.study(partly_labelled, metric=metrics, seeds=1, logdir=tmp_path / "it")
    (result,) = (json.loads(file.read_text()) for file in tmp_path.glob("it/*/result.json"))
    few = result["scored"]["other"]["accuracy"]
    assert result["scored"]["one"]["accuracy"] == result["examples"] == 60
    assert 2 < few < 20
    lines = json.loads((tmp_path / "it/study.json").read_text())["lines"]
    for line, count in zip(lines, (few, 60, few, few), strict=True):
        expected = mean([line["mean"]["value"]], count)
        assert (line["mean"]["low"], line["mean"]["high"]) == (expected.low, expected.high)
    antiphon.population(
        partly_labelled,
        vary={"lr": [0.001, 0.01]},
        members=2,
        steps=4,
        select={"by": "other.accuracy", "every": 2},
        logdir=tmp_path / "two",
    )
    with Simulation.load(tmp_path / "two/member-0", partly_labelled()) as simulation:
        validation = simulation.evaluate("validation")
    count, share = validation.scored["other"]["accuracy"], validation.score("other.accuracy")
    lineage = json.loads((tmp_path / "two/population.json").read_text())["lineage"]
    of_first = next(entry for entry in lineage if entry["member"] == 0)
    assert count < validation.examples
    assert of_first["error"] == pytest.approx((share * (1 - share) / count) ** 0.5)


def test_a_metric_of_some_readouts_is_their_mean_in_a_study_as_in_a_run(tmp_path: Path) -> None:
    values = {"kind": "regression", "target": "y"}
    antiphon.study(
        partly_labelled, metric=["accuracy", "error"], values=values, seeds=1, logdir=tmp_path / "mixed"
    )
    (result,) = (json.loads(file.read_text()) for file in tmp_path.glob("mixed/*/result.json"))
    lines = json.loads((tmp_path / "mixed/study.json").read_text())["lines"]
    assert [line["mean"]["value"] for line in lines] == [result["accuracy"], result["error"]]
    assert [line["share"] for line in lines] == [True, False]


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

    def begun(scenario: Any, folder: str) -> tuple[str, list[torch.Tensor]]:
        table = antiphon.study(scenario, seeds=2, logdir=tmp_path / folder)
        weights = []
        for seed in range(2):
            with Simulation.load(next((tmp_path / folder).glob(f"*-s{seed}")), scenario=build()) as run:
                weights.append(run.agents["a"].parameters["module.weight"].detach().clone())
        assert antiphon.study(scenario, seeds=2, logdir=tmp_path / folder).result == table.result
        return " ".join(str(table).split()), weights

    for seed in range(2):
        torch.manual_seed(seed)
        torch.randn(40, 5)
        right = torch.nn.Linear(5, 2).weight.detach()
        said, weights = begun(build, f"function-{seed}")
        torch.testing.assert_close(weights[seed], right, atol=1e-6, rtol=0)
        assert "initial parameters" not in said
    given = build()
    said, weights = begun(given, "object")
    torch.testing.assert_close(*weights, atol=1e-6, rtol=0)
    assert "a: the initial parameters are those of the module given, in all seeds" in said
    with pytest.warns(antiphon.ScenarioWarning, match="in all seeds; give a function that makes the module"):
        antiphon.Population(given, seeds=[0, 1]).close()
