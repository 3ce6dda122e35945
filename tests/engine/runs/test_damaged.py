"""Damaged files of a run directory: one line with the file and the fix, and a run that is as it was."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.run import Run, resume
from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.errors import RunError
from antiphon.manifests import entry_of, read_checked, write_checked, write_manifest
from antiphon.scenarios import load
from tests.commands import Commands
from tests.engine.numbers import one_line

NEWEST = "checkpoints/step-000000004"


def trained(path: Path, steps: int) -> Path:
    scenario = load("digits-mlp").resolve(None, {"depth": 3, "width": 4, "batch": 8, "steps": 6})
    with Simulation(scenario, logdir=path, checkpoint_every=2) as simulation:
        for _ in (simulation.step() for _ in range(steps)):
            pass
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has stopped after four of six steps."""
    return trained(tmp_path_factory.mktemp("runs") / "run", 4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run to its end."""
    return trained(tmp_path_factory.mktemp("runs") / "whole", 6)


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "run")


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def gone_on_with(run: Path) -> None:
    found = resume(run, 6)
    assert isinstance(found, Run)
    found.train()


def event_file(run: Path) -> str:
    (path,) = run.glob("events.*.antiphon")
    return path.name


FIX = {
    "run.json": "restore it from a copy",
    "scenario.yaml": "restore it from a copy",
    "metrics.csv": "restore it from a copy, or delete it, and a new one begins",
    "events": "restore it from a copy, or delete it, and a new one begins",
    f"{NEWEST}/state.json": "delete this checkpoint to go on from step-000000002",
    f"{NEWEST}/state.safetensors": "delete this checkpoint to go on from step-000000002",
    f"{NEWEST}/manifest.json": "delete this checkpoint to go on from step-000000002",
}


@pytest.mark.parametrize("file", FIX)
def test_a_damaged_file_is_found_before_anything_is_written(run: Path, file: str) -> None:
    path = run / (event_file(run) if file == "events" else file)
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        path.write_bytes(damaged)
        before = contents(run)
        with one_line(
            rf"^{re.escape(str(path))}: is not what was written \(checksum\); {FIX[file]}$", RunError
        ):
            gone_on_with(run)
        assert contents(run) == before


@pytest.mark.parametrize("file", ["metrics.csv", "events", NEWEST])
def test_what_may_be_deleted_is_no_obstacle(run: Path, whole: Path, file: str) -> None:
    path = run / (event_file(run) if file == "events" else file)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    gone_on_with(run)
    last = Path("checkpoints") / "step-000000006"
    assert contents(run / last) == contents(whole / last)


def test_a_damaged_result_is_written_anew_without_it(run: Path) -> None:
    gone_on_with(run)
    whole = (run / "result.json").read_bytes()
    (run / "result.json").write_bytes(whole.replace(b"done", b"gone"))
    with one_line(
        r"result\.json: is not what was written \(checksum\); delete it, and it is written anew$", RunError
    ):
        resume(run)
    (run / "result.json").unlink()
    gone_on_with(run)
    result = RunDirectory.open(run).result
    assert result is not None
    assert result["agents"] == json.loads(whole)["agents"]


def test_what_reads_a_run_names_the_damaged_file(run: Path, original: Path, cli: Commands) -> None:
    (run / "metrics.csv").write_bytes((run / "metrics.csv").read_bytes().replace(b"n1", b"n9", 1))
    assert "metrics.csv: is not what was written" in cli.refused("diff", run, original)
    cli("report", run, "-o", run.parent / "report.html")
    assert "metrics.csv: is not what was written (checksum)" in cli.err
    (run / "scenario.yaml").write_bytes((run / "scenario.yaml").read_bytes() + b"#")
    assert "scenario.yaml: is not what was written" in cli.refused("diff", original, run)


def test_rows_after_the_newest_checkpoint_are_read_as_they_are(
    run: Path, original: Path, cli: Commands
) -> None:
    """Of a run that goes on, or was killed: no digest covers them yet."""
    with (run / "metrics.csv").open("a") as table:
        table.write("5,agent,n2,loss,0.5\n6,agent,n2,lo")
    RunDirectory.open(run).note_running()
    cli("report", run, "-o", run.parent / "report.html")
    assert cli.err == ""
    gone_on_with(run)
    assert "5,agent,n2,loss,0.5" not in (run / "metrics.csv").read_text()


def test_a_checkpoint_under_another_name_is_not_gone_on_from(run: Path) -> None:
    (run / NEWEST).rename(run / "checkpoints/step-000000005")
    found = resume(run, 6)
    assert isinstance(found, Run)
    with one_line("run.json has no checkpoint of step 5; resume from another one", RunError):
        RunDirectory.open(run).rewind(5)


def test_a_link_to_a_run_directory_is_fine_and_one_to_its_checkpoints_is_not(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "newest").symlink_to(run)
    assert RunDirectory.open(tmp_path / "newest").checkpoint_step == 4
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with one_line("checkpoints: is a link, which a run directory does not hold", RunError):
        resume(run, 6)


# --- what somebody wrote by hand, with the digests that belong to it ------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        *(
            {key: ...}
            for key in ("exit", "warnings", "device", "backend", "threads", "steps", "seed", "dtype")
        ),
        *({key: ...} for key in ("files", "checkpoints", "seconds")),
        *({"threads": value} for value in ("1", None, True)),
        {"dtype": 3},
        {"warnings": "x"},
    ],
    ids=str,
)
def test_what_run_json_needs_is_there_and_of_its_kind(run: Path, value: dict[str, Any]) -> None:
    facts = {**read_checked(run / "run.json"), **value}
    write_checked(run / "run.json", {key: each for key, each in facts.items() if each is not ...})
    with one_line(rf"run\.json: does not fit \(.*{next(iter(value))}.*\); restore it from a copy", RunError):
        RunDirectory.open(run)


def test_settings_and_entries_that_cannot_be_are_one_line(run: Path) -> None:
    directory = RunDirectory.open(run)
    for facts in (
        {"dtype": "int9"},
        {"dtype": "float32", "matmul_precision": 3},
        {"checkpoints": {"step-000000004": {"metrics.csv": 7}}},
    ):
        directory.note(**facts)
        with one_line(r"run\.json: does not fit \(", RunError):
            gone_on_with(run)
    for result in ("{", "[1]"):
        (run / "result.json").write_text(result)
        directory.note(files={**directory.facts["files"], "result.json": entry_of(run / "result.json")})
        with one_line(r"result\.json: does not fit \(", RunError):
            _ = directory.result


def _record(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["system"]["ledgers"]["n0->n1"]["records"][0]
    return found


def _reshaped(learner: dict[str, Any]) -> None:
    name = next(iter(learner["parameters"]))
    learner["parameters"][name] = learner["parameters"][name].flatten()


Change = Callable[[dict[str, Any], dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *((lambda f, s, key=key: f.pop(key), rf"does not fit \(no '{key}'\)") for key in ("scenario", "seed", "dtype")),
        (lambda f, s: f.update(dtype="int8"), r"does not fit \(dtype 'int8'\)"),
        (lambda f, s: f.update(dtype=3), "does not fit"),
        (lambda f, s: f.update(seed="x"), "does not fit"),
        (lambda f, s: f.update(scenario=3), "does not fit"),
        (lambda f, s: f.update(scenario="[1]"), r"state\.json"),
        *((lambda f, s, key=key: s.pop(key), "does not fit") for key in ("now", "tally", "present", "system", "env")),
        (lambda f, s: s["env"].pop("tick"), r"does not fit \(no 'tick'\)"),
        (lambda f, s: s["system"]["learners"].pop("n0"), r"agents\.n0: nothing in the state, there in the scenario"),
        (lambda f, s: _reshaped(s["system"]["learners"]["n0"]), r"agents\.n0\.parameters\..*: \[256\] of float32 in"),
        (lambda f, s: s["system"]["units"][0].update(tape=[]), "does not fit"),
        (lambda f, s: s["system"].update(moments=None), "does not fit"),
        (lambda f, s: s["present"].update(label=torch.ones(3)), r"signals\.label: \[3\] of float32 in the state"),
        (lambda f, s: _record(s).pop("stamp"), r"does not fit \(no 'stamp'\)"),
    ],
)  # fmt: skip
def test_a_state_of_another_form_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)  # of a long path the line would have the ends alone
    facts, state = checkpoint.read(run / NEWEST)
    facts.pop("sha256")
    change(facts, state)
    checkpoint.write(Path("changed"), facts, state)
    with one_line(
        f"^changed.*{reason}",
        RunError if "scenario" not in facts or facts["scenario"] != "[1]" else Exception,
    ):
        Simulation.load("changed")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"state": {"a": {"\\u0000tensor": "x"}}}', "[" * 100_000])
def test_a_state_json_that_is_no_state_is_one_line(run: Path, tmp_path: Path, text: str) -> None:
    folder = shutil.copytree(run / NEWEST, tmp_path / "alone")
    (folder / "manifest.json").unlink()
    (folder / "state.json").write_text(text)
    write_manifest(folder)
    with one_line(r"alone: does not fit \(", RunError):
        Simulation.load(folder)
