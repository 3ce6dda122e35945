"""Studies: lines beside each other, runs kept, tables written, failures told."""

from __future__ import annotations

import csv
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.lock import DirectoryLock
from antiphon.engine.runs.request import Request
from antiphon.engine.studies.plan import StudyOptions
from antiphon.engine.studies.pool import Pool, job_of, work
from antiphon.engine.studies.study import Ended, Study
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Template, load
from antiphon.scenarios.study import StudySpec

TEMPLATE = load("digits-mlp")
VALUES = {"depth": 2, "width": 8, "batch": 16}
DOCUMENT = """
study: toy
rows: [digits-mlp]
variants: [locked, detached]
set: {width: 8, batch: 16}
grid: {depth: [2, 3]}
tune: {lr: [0.000001, 0.01]}
metric: error
budgets: {small: {steps: 30, seeds: 1}}
"""


def study(directory: Path, **changes: Any) -> Study:
    asked = StudyOptions(**{"values": VALUES, "seeds": 1, "steps": 8, **changes})
    return Study.of_template(TEMPLATE, directory, asked)


def documented(directory: Path, text: str = DOCUMENT, **changes: Any) -> Study:
    return Study(spec=StudySpec.from_yaml(text), directory=directory, options=StudyOptions(**changes))


def silently(run: Ended) -> None:
    pass


def test_all_variants_run_and_tables_are_written(tmp_path: Path) -> None:
    told: list[Ended] = []
    outcome = study(tmp_path / "study", seeds=2, variants=["locked", "detached"]).go(1, told.append)
    folder = tmp_path / "study"
    assert (outcome.exit_code, outcome.missing) == (0, None)
    assert [(run.number, run.total, run.label, run.seed, run.kept) for run in told] == [
        (1, 4, "locked", 0, False),
        (2, 4, "locked", 1, False),
        (3, 4, "detached", 0, False),
        (4, 4, "detached", 1, False),
    ]
    runs = {"locked-s0", "locked-s1", "detached-s0", "detached-s1"}
    written = {"table.csv", "table.md", "figure.svg", "graph.png"}
    assert {path.name for path in folder.iterdir()} == runs | written
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["n"]) for row in rows] == [("locked", "2"), ("detached", "2")]
    scores = [run["accuracy"] for name, run in outcome.result["runs"].items() if name.startswith("locked")]
    assert float(rows[0]["mean"]) == pytest.approx(sum(scores) / 2)
    assert (folder / "table.md").read_text().startswith("# digits-mlp: 8 steps, 2 seeds\n\n| variant | accur")


def test_what_is_finished_is_kept_and_more_seeds_are_added(tmp_path: Path) -> None:
    first = study(tmp_path, variants=["locked"]).go(1, silently)
    told: list[Ended] = []
    second = study(tmp_path, variants=["locked"], seeds=2).go(1, told.append)
    assert [(run.seed, run.kept) for run in told] == [(0, True), (1, False)]
    assert second.result["runs"]["locked-s0"] == first.result["runs"]["locked-s0"]


def test_other_values_are_refused_before_anything_runs(tmp_path: Path) -> None:
    study(tmp_path, variants=["detached"]).go(1, silently)
    with pytest.raises(RunError, match=r"detached-s0: holds another run \(width: 8 there, 9 asked\)"):
        study(tmp_path, variants=["locked", "detached"], values={**VALUES, "width": 9}).go(1, silently)
    assert not (tmp_path / "locked-s0").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"variants": ["lokced"]}, "no variant 'lokced'; did you mean 'locked'"),
        ({"values": {"widht": 3}}, "no parameter 'widht'; did you mean 'width'"),
        ({"budget": "paper"}, "has no budget 'paper'; a scenario has none: say --steps and --seeds"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ScenarioError, match=problem):
        study(tmp_path / "study", **changes).go(1, silently)
    assert not (tmp_path / "study").exists()


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"^.*/file/study: cannot be written \(Not a directory\)"):
        study(tmp_path / "file/study").go(1, silently)


def test_a_run_that_cannot_begin_ends_the_study_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RunError("the disk is gone")

    monkeypatch.setattr(RunDirectory, "create", refuse)
    with pytest.raises(RunError, match=r"locked s0: the disk is gone"):
        study(tmp_path / "study").go(1, silently)
    assert not (tmp_path / "study").exists()


def test_a_second_study_in_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    held = DirectoryLock(tmp_path / "study")
    with pytest.raises(RunError, match="study: is being written by another process, or"):
        study(tmp_path / "study").go(1, silently)
    held.release()
    assert not list((tmp_path / "study").iterdir())


def test_a_template_without_variants_is_one_row(tmp_path: Path) -> None:
    start, end = TEMPLATE.text.index("variants:"), TEMPLATE.text.index("parameters:")
    plain = Template.from_yaml(TEMPLATE.text[:start] + TEMPLATE.text[end:], "plain.yaml")
    asked = StudyOptions(values=VALUES, seeds=1, steps=4)
    outcome = Study.of_template(plain, tmp_path, asked).go(1, silently)
    assert [line["variant"] for line in outcome.result["lines"]] == ["default"]
    assert (tmp_path / "default-s0/result.json").exists()


def test_a_document_is_run_tuned_on_validation_and_reported_on_test(tmp_path: Path) -> None:
    outcome = documented(tmp_path).go(1, silently)
    lines = outcome.result["lines"]
    assert [(line["point"], line["variant"]) for line in lines] == [
        ({"depth": depth}, variant) for depth in (2, 3) for variant in ("locked", "detached")
    ]
    runs = outcome.result["runs"]
    assert len(runs) == 8
    assert lines[0]["tuned"] == {"lr": 0.01}
    assert lines[0]["runs"] == ["depth-2-locked-lr-0.01-s0"]
    chosen = runs["depth-2-locked-lr-0.01-s0"]
    assert lines[0]["ours"]["value"] == pytest.approx(1 - chosen["accuracy"])
    assert lines[0]["validation"] == pytest.approx(chosen["scores"]["validation"]["error"])
    worse = runs["depth-2-locked-lr-1e-06-s0"]["scores"]["validation"]["error"]
    assert lines[0]["validation"] < worse
    table = (tmp_path / "table.md").read_text()
    assert "| depth | variant | lr | error % |" in table
    assert "lr: of 1e-06, 0.01, for each line the one that was best on the validation split." in table
    told: list[Ended] = []
    again = documented(tmp_path).go(1, told.append)
    assert all(run.kept for run in told)
    assert again.result == outcome.result


def test_scores_that_are_missing_are_made_up_for_without_running_again(tmp_path: Path) -> None:
    first = documented(tmp_path, variants=["locked"]).go(1, silently)
    place = tmp_path / "depth-2-locked-lr-0.01-s0"
    before = (place / "metrics.csv").stat().st_mtime_ns
    (place / "evaluations.json").unlink()
    told: list[Ended] = []
    again = documented(tmp_path, variants=["locked"]).go(1, told.append)
    assert [run.label for run in told if not run.kept] == ["depth=2 locked lr=0.01"]
    assert (place / "metrics.csv").stat().st_mtime_ns == before
    assert again.result == first.result


def test_a_metric_of_the_training_split(tmp_path: Path) -> None:
    text = DOCUMENT.replace("metric: error", "metric: train_loss").replace(
        "tune: {lr: [0.000001, 0.01]}\n", ""
    )
    outcome = documented(tmp_path, text, values={"depth": 2}).go(1, silently)
    (line, _) = outcome.result["lines"]
    assert line["ours"]["value"] == outcome.result["runs"]["locked-s0"]["scores"]["train"]["loss"] > 0
    assert "train loss" in (tmp_path / "table.md").read_text().splitlines()[2]


TIMELY = """
study: timely
rows: [digits-mlp]
variants: [locked, local]
set: {width: 8, batch: 16, depth: 2}
metric: [n1.accuracy, n1.error, solved]
bound: {n1.error: 0.99, solved: 3}
curves: [n1.error, loss]
budgets: {small: {steps: 12, seeds: 2}}
"""


@pytest.fixture
def solving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every environment says that it has solved two tasks."""
    monkeypatch.setattr("antiphon.envs.base.TorchVectorEnv.figures", lambda env: {"solved": 2.0})


@pytest.mark.usefixtures("solving")
def test_several_metrics_are_a_table_each_and_curves_stand_beside_them(tmp_path: Path) -> None:
    result = documented(tmp_path, TIMELY).go(1, silently).result
    assert [(one["metric"], one["of"], one["bound"]) for one in (result, *result["further"])] == [
        ("n1.accuracy", "n1", None),
        ("n1.error", "n1", 0.99),
        ("solved", "environment", 3.0),
    ]
    error, solved = (view["lines"] for view in result["further"])
    for first, second in zip(result["lines"], error, strict=True):
        assert second["ours"]["value"] == pytest.approx(1 - first["ours"]["value"])
        assert (first["within"], second["within"]) == (None, 2)
    assert [(one["ours"]["value"], one["within"]) for one in solved] == [(2.0, 0)] * 2
    table = (tmp_path / "table.md").read_text()
    assert table.count("| variant |") == 3
    assert table.count("Learning rates are as the scenario gives them") == 1
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["metric"] for row in rows] == ["n1.accuracy"] * 2 + ["n1.error"] * 2 + ["solved"] * 2
    assert [row["within"] for row in rows] == ["", "", "2", "2", "0", "0"]
    locked = rows[2]["steps_to_locked"]
    assert locked == rows[0]["steps_to_locked"] == str(result["curves"][0]["steps_to_locked"])
    assert rows[4]["steps_to_locked"] == ""
    assert [(curve["metric"], curve["variant"]) for curve in result["curves"]] == [
        ("n1.error", "locked"),
        ("n1.error", "local"),
        ("loss", "locked"),
        ("loss", "local"),
    ]
    for curve in result["curves"]:
        assert (curve["n"], curve["steps"]) == (2, [1, 12])
        assert 0 < curve["seconds"][0] < curve["seconds"][1]
    written = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert written == {"table.csv", "table.md", "figure.svg", "curves.csv", "curves.svg", "graph.png"}
    assert documented(tmp_path, TIMELY).go(1, silently).result == result


@pytest.mark.usefixtures("solving")
def test_what_the_environment_does_not_say_is_told_after_the_first_run(tmp_path: Path) -> None:
    told: list[Ended] = []
    text = TIMELY.replace("solved", "solvd")
    for _ in range(2):
        with pytest.raises(
            ScenarioError, match=r"timely: locked: .* nothing of 'solvd'; did you mean 'solved'"
        ):
            documented(tmp_path, text).go(1, told.append)
    assert (told, len(list(tmp_path.iterdir()))) == ([], 2)  # the seeds of a line are one job


def test_without_matplotlib_the_tables_are_there_and_a_line_says_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    outcome = study(tmp_path, variants=["detached"]).go(1, silently)
    assert outcome.exit_code == 0
    assert outcome.missing == "figure.svg needs matplotlib: pip install 'antiphon[plots]'"
    assert (tmp_path / "table.md").exists()
    assert not (tmp_path / "figure.svg").exists()


@contextmanager
def signal_when_running(folder: Path, runs: int) -> Iterator[None]:
    """Send SIGTERM to this process as soon as so many runs write figures into a folder."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            if len(list(folder.glob("*/metrics.csv"))) >= runs:
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
    with signal_when_running(tmp_path, 2 * jobs):
        outcome = study(tmp_path, steps=200_000, seeds=2).go(jobs, told.append)
    assert outcome.exit_code == 143
    assert (outcome.result["exit"], outcome.result["runs"], told) == ("stopped", {}, [])
    names = ["detached-s0", "detached-s1", "locked-s0", "locked-s1"][-2 * jobs :]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert len(list(tmp_path.glob("*/checkpoints/step-*/state.json"))) == 2 * jobs


def test_a_worker_that_dies_is_a_defect_that_names_the_run(tmp_path: Path) -> None:
    class Dying(Pool):
        def _start(self) -> Any:
            worker = super()._start()
            worker.kill()
            return worker

    job = job_of(study(tmp_path).plan.runs["locked-s0"].request, tmp_path / "run")
    answers = list(Dying(2).answers([job, job]))
    assert [answer["exit_code"] for _, answer in answers] == [1, 1]
    assert answers[0][1]["error"] == f"the process that ran it was {KILLED}"


KILLED = "killed by SIGKILL (by hand, or the machine was out of memory)"


@pytest.mark.parametrize("survivors", [0, 1])
def test_a_run_that_fails_is_missing_from_the_table_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    """Whatever its process ended by: killed, stopped by a signal of its own, out of memory."""
    endings = {"locked": (1, KILLED), "detached": (143, None), "local": (4, "out of memory")}
    endings |= {} if survivors else {"decoupled": (1, KILLED)}

    def answers(self: Pool, jobs: Any, done: Any) -> Iterator[Any]:
        for index, job in enumerate(jobs):
            if index in done:
                continue
            code, error = endings.get(job["variant"], (0, None))
            failed = {"result": None, "scores": {}, "exit_code": code, "error": error}
            yield index, failed if code else (work([job]) or [])[0]

    ended: list[Ended] = []
    variants = ["locked", "detached", "local", "decoupled"]
    with monkeypatch.context() as patch:
        patch.setattr(Pool, "answers", answers)
        outcome = study(tmp_path, variants=variants).go(2, ended.append)
    assert (outcome.exit_code, outcome.result["exit"]) == (1, "failed")
    assert [run.error for run in ended[:3]] == [
        KILLED,
        "its process was stopped (exit code 143)",
        "out of memory",
    ]
    assert [(run.number, run.total) for run in ended] == [(number, 4) for number in range(1, 5)]
    assert list(outcome.result["runs"]) == ["decoupled-s0"] * survivors
    assert [line["n"] for line in outcome.result["lines"]] == [0, 0, 0, survivors]
    assert f"locked-s0: missing, {KILLED}." in (tmp_path / "table.md").read_text()
    again = study(tmp_path, variants=variants).go(1, silently)
    assert (again.exit_code, again.result["exit"], again.result["failed"]) == (0, "done", {})
    assert [line["n"] for line in again.result["lines"]] == [1, 1, 1, 1]
    assert "missing" not in (tmp_path / "table.md").read_text()


def test_a_worker_answers_with_an_error_line(tmp_path: Path) -> None:
    request = Request(template=TEMPLATE, values={"width": 0}, seed=1)
    assert work([job_of(request, tmp_path / "run")]) == [
        {
            "result": None,
            "scores": {},
            "exit_code": 2,
            "error": "parameter 'width': must be at least 1, not 0",
        }
    ]
