"""Studies carried out: runs kept and resumed, tables written, processes stopped, failures in one line."""

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
from antiphon import Simulation
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
