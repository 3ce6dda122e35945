"""Studies carried out: runs kept and resumed, tables written, workers stopped and killed, failures in one line."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine import base_simulation
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.lock import DirectoryLock
from antiphon.engine.studies.plan import StudyOptions
from antiphon.engine.studies.pool import Answer, Pool, train
from antiphon.engine.studies.study import Study
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Scenario, load
from antiphon.scenarios.study import StudySpec

TEMPLATE = load("digits-mlp")
VALUES = {"depth": 2, "width": 8, "batch": 16}
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
KILLED = "its process was killed (by hand, or the machine was out of memory)"


def study(directory: Path, **options: Any) -> Study:
    options = {"values": VALUES, "seeds": 1, "steps": 8, **options}
    return Study.of_template(TEMPLATE, directory, StudyOptions(**options))


def documented(directory: Path, text: str = DOCUMENT, **options: Any) -> Study:
    return Study(spec=StudySpec.from_yaml(text), directory=directory, options=StudyOptions(**options))


def silently(line: str) -> None:
    pass


def without_seconds(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without what no two studies have alike."""
    lines = [{key: value for key, value in line.items() if key != "seconds"} for line in result["lines"]]
    runs = {name: run["accuracy"] for name, run in result["runs"].items()}
    return result | {"lines": lines, "runs": runs, "study_dir": ""}


def test_all_variants_run_tables_are_written_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    folder = tmp_path / "study"
    first = study(folder, variants=["locked"]).go(1, silently)
    before = (folder / "locked-s0/metrics.csv").stat().st_mtime_ns
    result = study(folder, seeds=2, variants=["locked", "detached"]).go(1, lines.append)
    assert result["exit_code"] == 0
    assert result["runs"]["locked-s0"] == first["runs"]["locked-s0"]
    assert (folder / "locked-s0/metrics.csv").stat().st_mtime_ns == before
    names = ["locked s0", "locked s1", "detached s0", "detached s1"]
    assert [line.partition(": accuracy")[0] for line in lines] == [
        f"[{i}/4] {n}" for i, n in enumerate(names, 1)
    ]
    runs = {name.replace(" ", "-") for name in names}
    assert {path.name for path in folder.iterdir()} == runs | {"table.csv", "table.md", "figure.svg"}
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["n"]) for row in rows] == [("locked", "2"), ("detached", "2")]
    scores = [run["accuracy"] for name, run in result["runs"].items() if name.startswith("locked")]
    assert float(rows[0]["mean"]) == pytest.approx(sum(scores) / 2)
    assert (folder / "table.md").read_text().startswith("# digits-mlp: 8 steps, 2 seeds\n\n| variant | accur")
    assert study(folder, seeds=2, variants=["locked", "detached"]).go(1, lines.append) == result
    assert all(line.endswith(" (kept)") for line in lines[4:])
    with pytest.raises(RunError, match=r"locked-s0: holds another run \(width: 8 there, 9 asked\)"):
        study(folder, variants=["local", "locked"], values={**VALUES, "width": 9}).go(1, silently)
    assert not (folder / "local-s0").exists()


def test_a_study_that_cannot_write_or_begin_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"^.*/file/study: cannot be written \(Not a directory\)"):
        study(tmp_path / "file/study").go(1, silently)
    (tmp_path / "study").mkdir()
    held = DirectoryLock(tmp_path / "study")
    with pytest.raises(RunError, match="study: is being written by another process, or"):
        study(tmp_path / "study").go(1, silently)
    held.release()
    assert not list((tmp_path / "study").iterdir())

    def refuse(*_: object) -> None:
        raise RunError("the disk is gone")

    monkeypatch.setattr(RunDirectory, "create", refuse)
    with pytest.raises(RunError, match=r"locked s0: the disk is gone"):
        study(tmp_path / "new").go(1, silently)
    assert not (tmp_path / "new").exists()


def test_a_document_is_tuned_on_validation_and_reported_on_test(tmp_path: Path) -> None:
    result = documented(tmp_path).go(1, silently)
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
    assert "| depth | variant | lr | error % |" in (tmp_path / "table.md").read_text()
    place = tmp_path / "depth-2-locked-lr-0.01-s0"
    before = (place / "metrics.csv").stat().st_mtime_ns
    (place / "evaluations.json").unlink()
    assert documented(tmp_path).go(1, silently) == result  # scored again, not run again
    assert (place / "metrics.csv").stat().st_mtime_ns == before


def test_several_metrics_are_a_table_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.envs.base.TorchVectorEnv.figures", lambda env: {"solved": 2.0})
    text = DOCUMENT.replace("metric: error\n", "metric: [n1.accuracy, solved]\n")
    changes = {"values": {"depth": 2, "lr": 0.01}}
    result = documented(tmp_path, text, **changes).go(1, silently)
    accuracy, _, solved, _ = result["lines"]
    assert [(line["metric"], line["of_env"]) for line in (accuracy, solved)] == [
        ("n1.accuracy", False),
        ("solved", True),
    ]
    assert solved["mean"]["value"] == 2.0
    assert (tmp_path / "table.md").read_text().count("| variant |") == 2
    with (tmp_path / "table.csv").open() as file:
        assert [row["metric"] for row in csv.DictReader(file)] == ["n1.accuracy"] * 2 + ["solved"] * 2
    for _ in range(2):  # the run that has found it out is kept
        with pytest.raises(
            ScenarioError, match=r"^toy: locked s0: .* has a metric 'solvd'; did you mean 'solved'"
        ):
            documented(tmp_path, text.replace("solved", "solvd"), **changes).go(1, silently)


def test_without_matplotlib_the_tables_are_there_and_a_line_says_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    lines: list[str] = []
    assert study(tmp_path, variants=["detached"]).go(1, lines.append)["exit_code"] == 0
    assert lines[-1] == "no figure: figure.svg needs matplotlib: pip install 'antiphon[plots]'"
    assert (tmp_path / "table.md").exists()


@pytest.mark.long
def test_workers_compute_the_same_numbers(tmp_path: Path) -> None:
    variants = {"variants": ["locked", "detached"], "seeds": 2}
    one = study(tmp_path / "one", **variants).go(1, silently)
    two = study(tmp_path / "two", **variants).go(2, silently)
    assert without_seconds(two) == without_seconds(one)
    facts = json.loads((tmp_path / "two/locked-s0/run.json").read_text())
    assert facts["together"] == [0, 1]


def test_the_seeds_of_a_line_are_divided_where_there_are_more_processes(tmp_path: Path) -> None:
    two = study(tmp_path, variants=["locked", "detached"], seeds=5)
    shares = {processes: [[*chunk.seeds] for chunk in two._chunks(processes)] for processes in (1, 3, 4, 16)}
    assert shares[1] == shares[3] == [[0, 1, 2, 3, 4]] * 2
    assert shares[4] == [[0, 1], [2, 3, 4]] * 2
    assert shares[16] == [[seed] for seed in range(5)] * 2


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_signal_stops_a_study_with_checkpoints(tmp_path: Path, jobs: int) -> None:
    """As soon as all that run at a time write metrics."""
    ended, lines = threading.Event(), list[str]()

    def watch() -> None:
        while not ended.wait(0.02):
            if len(list(tmp_path.glob("*/metrics.csv"))) >= 2 * jobs:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = study(tmp_path, steps=200_000, seeds=2).go(jobs, lines.append)
    finally:
        ended.set()
        watcher.join()
    assert (result["exit_code"], result["runs"], lines) == (143, {}, [])
    names = ["detached-s0", "detached-s1", "locked-s0", "locked-s1"][-2 * jobs :]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert len(list(tmp_path.glob("*/checkpoints/step-*/state.json"))) == 2 * jobs


def test_a_run_that_fails_is_missing_from_the_table_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its process was killed, stopped by a signal of its own, or it does not fit into memory."""
    failures = {"locked": Answer(1, KILLED), "detached": Answer(143)}
    plain = base_simulation.build

    def build(scenario: Scenario, *arguments: Any, **settings: Any) -> Any:
        if scenario.channels[0].gradient.kind == "local":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return plain(scenario, *arguments, **settings)

    def answers(self: Pool, chunks: Any) -> Iterator[Any]:
        for chunk in chunks:
            failed = failures.get(chunk.runs.name)
            yield chunk, [failed] if failed else train(chunk)

    lines: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Pool, "answers", answers)
        patch.setattr(base_simulation, "build", build)
        result = study(tmp_path).go(2, lines.append)
    assert result["exit_code"] == 1
    assert [line.partition(";")[0] for line in lines[:3]] == [
        f"[1/4] locked s0: failed: {KILLED}",
        "[2/4] detached s0: failed: its process was stopped (exit code 143)",
        "[3/4] local s0: failed: out of memory",
    ]
    assert list(result["runs"]) == ["decoupled-s0"]
    assert [line["n"] for line in result["lines"]] == [0, 0, 0, 1]
    assert f"locked-s0: missing, {KILLED}." in (tmp_path / "table.md").read_text()
    again = study(tmp_path).go(1, silently)
    assert (again["exit_code"], again["failed"]) == (0, {})
    assert "missing" not in (tmp_path / "table.md").read_text()
