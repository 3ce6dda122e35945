"""Studies: variants beside each other, runs kept, tables written, failures told."""

from __future__ import annotations

import csv
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.request import Request
from antiphon.engine.studies.pool import Pool
from antiphon.engine.studies.study import Ended, Study, summary
from antiphon.engine.studies.table import cells, remarks
from antiphon.engine.studies.worker import job_of, work
from antiphon.errors import EngineError, RunError, ScenarioError
from antiphon.scenarios import Template, load

TEMPLATE = load("digits-mlp")
VALUES = {"depth": 2, "width": 8, "batch": 16}


def study(directory: Path, **changes: Any) -> Study:
    return Study(
        **{"template": TEMPLATE, "directory": directory, "values": VALUES, "seeds": 1, "steps": 8, **changes}
    )


def run_result(accuracy: float | None, ended: str = "done", seconds: float = 2.0) -> dict[str, Any]:
    return {"accuracy": accuracy, "exit": ended, "seconds": seconds, "examples": 400, "steps": 8}


def results(**variants: list[float]) -> dict[tuple[str, int], Mapping[str, Any]]:
    return {(name, seed): run_result(a) for name, scores in variants.items() for seed, a in enumerate(scores)}


def test_all_variants_run_and_tables_are_written(tmp_path: Path) -> None:
    told: list[Ended] = []
    outcome = study(tmp_path / "study", seeds=2, variants=["locked", "detached"]).go(1, told.append)
    folder = tmp_path / "study"
    assert outcome.exit_code == 0
    assert [(run.number, run.total, run.variant, run.seed, run.kept) for run in told] == [
        (1, 4, "locked", 0, False),
        (2, 4, "detached", 0, False),
        (3, 4, "locked", 1, False),
        (4, 4, "detached", 1, False),
    ]
    names = {path.name for path in folder.iterdir()}
    assert {
        "locked-s0",
        "locked-s1",
        "detached-s0",
        "detached-s1",
        "table.csv",
        "table.md",
        "graph.png",
    } == names
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["n"]) for row in rows] == [("locked", "2"), ("detached", "2")]
    scores = [run["accuracy"] for run in outcome.result["runs"] if run["variant"] == "locked"]
    assert float(rows[0]["accuracy_mean"]) == pytest.approx(sum(scores) / 2)
    assert (folder / "table.md").read_text().startswith("# digits-mlp: 8 steps, 2 seeds\n\n| variant | n |")


def test_what_is_finished_is_kept_and_more_seeds_are_added(tmp_path: Path) -> None:
    first = study(tmp_path, variants=["locked"]).go(1, lambda run: None)
    told: list[Ended] = []
    second = study(tmp_path, variants=["locked"], seeds=2).go(1, told.append)
    assert [(run.seed, run.kept) for run in told] == [(0, True), (1, False)]
    assert second.result["runs"][0] == first.result["runs"][0]


def test_other_values_are_refused_before_anything_runs(tmp_path: Path) -> None:
    study(tmp_path, variants=["detached"]).go(1, lambda run: None)
    with pytest.raises(RunError, match=r"detached-s0: holds another run \(width: 8 there, 9 asked\)"):
        study(tmp_path, variants=["locked", "detached"], values={**VALUES, "width": 9}).go(
            1, lambda run: None
        )
    assert not (tmp_path / "locked-s0").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"variants": ["lokced"]}, "no variant 'lokced'; did you mean 'locked'"),
        ({"values": {"widht": 3}}, "no parameter 'widht'; did you mean 'width'"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ScenarioError, match=problem):
        study(tmp_path / "study", **changes).go(1, lambda run: None)
    assert not (tmp_path / "study").exists()


def test_a_run_that_cannot_begin_ends_the_study_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"locked s0: .*cannot be written"):
        study(tmp_path / "file/study").go(1, lambda run: None)


def test_a_template_without_variants_is_one_row(tmp_path: Path) -> None:
    text = (
        TEMPLATE.text[: TEMPLATE.text.index("variants:")]
        + TEMPLATE.text[TEMPLATE.text.index("parameters:") :]
    )
    outcome = study(tmp_path, template=Template.from_yaml(text, "plain.yaml")).go(1, lambda run: None)
    assert list(outcome.result["variants"]) == ["default"]
    assert (tmp_path / "default-s0/result.json").exists()


def test_a_run_in_a_process_of_its_own_gives_the_same_numbers(tmp_path: Path) -> None:
    request = study(tmp_path).requests()["local", 0]
    (index, pooled), *others = Pool(2).answers([job_of(request, tmp_path / "pool")])
    alone = work(job_of(request, tmp_path / "alone"))
    assert (index, others, pooled["exit_code"]) == (0, [], 0)
    assert pooled["result"]["agents"] == alone["result"]["agents"]
    assert pooled["result"]["channels"] == alone["result"]["channels"]


@contextmanager
def signal_when_running(folder: Path, runs: int) -> Iterator[None]:
    """Send SIGTERM to this process as soon as so many runs write figures into a folder."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            if len(list(folder.glob("*/metrics.csv"))) == runs:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_signal_stops_a_study_with_checkpoints(tmp_path: Path, jobs: int) -> None:
    told: list[Ended] = []
    with signal_when_running(tmp_path, jobs):
        outcome = study(tmp_path, steps=200_000, seeds=2).go(jobs, told.append)
    assert outcome.exit_code == 143
    assert (outcome.result["exit"], outcome.result["runs"], told) == ("stopped", [], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detached-s0", "locked-s0"][-jobs:]
    assert len(list(tmp_path.glob("*/checkpoints/step-*/state.json"))) == jobs


def test_a_worker_that_dies_is_a_defect_that_names_the_run(tmp_path: Path) -> None:
    class Dying(Pool):
        def _start(self) -> Any:
            worker = super()._start()
            worker.kill()
            return worker

    job = job_of(study(tmp_path).requests()["locked", 0], tmp_path / "run")
    answers = list(Dying(2).answers([job, job]))
    assert [answer["exit_code"] for _, answer in answers] == [1, 1]
    assert answers[0][1]["error"] == "the process that ran it ended with code -9"


def test_a_defect_in_a_run_ends_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"result": None, "exit_code": 1, "error": "the process that ran it ended with code -9"}
    monkeypatch.setattr("antiphon.engine.studies.pool.work", lambda job: answer)
    with pytest.raises(EngineError, match="locked s0: the process"):
        study(tmp_path).go(1, lambda run: None)


def test_a_worker_answers_with_an_error_line(tmp_path: Path) -> None:
    request = Request(template=TEMPLATE, values={"width": 0}, seed=1)
    assert work(job_of(request, tmp_path / "run")) == {
        "result": None,
        "exit_code": 2,
        "error": "parameter 'width': must be at least 1, not 0",
    }


def test_summary_compares_with_locked_and_detached() -> None:
    found = summary(results(locked=[0.90, 0.92], detached=[0.50, 0.52], local=[0.70, 0.72]))
    assert found["contrast"]["resolved"]
    assert found["contrast"]["difference"] == pytest.approx(0.4)
    assert found["variants"]["local"]["recovered"]["value"] == pytest.approx(0.5)
    assert found["variants"]["locked"]["recovered"]["value"] == 1.0
    assert found["variants"]["local"]["seconds"] == 2.0


def test_recovered_is_undefined_within_three_standard_errors() -> None:
    study = summary(results(locked=[0.90, 0.60], detached=[0.50, 0.52], local=[0.70, 0.72]))
    assert not study["contrast"]["resolved"]
    assert study["variants"]["local"]["recovered"] is None
    assert [row[4] for row in cells(study)] == ["undefined"] * 3
    assert "within three standard errors" in "".join(remarks(study))


def test_recovered_needs_both_references() -> None:
    study = summary(results(locked=[0.9], local=[0.7]))
    assert study["contrast"] is None
    assert [row[4] for row in cells(study)] == ["–", "–"]
    assert "needs the variants locked and detached" in "".join(remarks(study))


def test_a_diverged_run_is_counted_but_not_averaged() -> None:
    found: dict[tuple[str, int], Mapping[str, Any]] = {
        ("locked", 0): run_result(0.9),
        ("locked", 1): run_result(0.1, "diverged"),
        ("local", 0): run_result(0.1, "diverged"),
    }
    study = summary(found)
    assert study["variants"]["locked"]["accuracy"]["value"] == 0.9
    assert cells(study)[0][:2] == ["locked (1 diverged)", "1"]
    assert cells(study)[1][:4] == ["local (1 diverged)", "0", "–", ""]


def test_cells_read_well() -> None:
    study = summary(results(locked=[0.90, 0.92], detached=[0.50, 0.52], local=[0.70, 0.76]))
    assert cells(study)[2] == ["local", "2", "73.00 ± 4.24", "34.9 – 100.0", "0.55", "0.50 – 0.60", "2.0"]
    assert cells(study)[0][4:6] == ["1.00", ""]
