"""Damaged files of a run directory: one line with the file and the fix, and a run that is as it was."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon import RunError, Simulation, load
from antiphon.telemetry import read_run
from tests.engine.numbers import one_line
from tests.kit.commands import Commands
from tests.kit.resigned import resign, rewrite_facts, rewrite_state
from tests.running.left import result

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
    with Simulation.resume(run) as simulation:
        simulation.run()


def file_of(run: Path, name: str) -> Path:
    (path,) = run.glob("events.*.antiphon" if name == "events" else name)
    return path


FIX = {
    "run.json": "restore it from a copy",
    "scenario.yaml": "restore it from a copy",
    "metrics.csv": "restore it from a copy, or delete it, and a new one begins",
    "events": "restore it from a copy, or delete it, and a new one begins",
    f"{NEWEST}/state.json": "delete this checkpoint to continue from step-000000002",
}


@pytest.mark.parametrize("file", FIX)
def test_a_damaged_file_is_found_before_anything_is_written(run: Path, file: str) -> None:
    path = file_of(run, file)
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        path.write_bytes(damaged)
        before = contents(run)
        with one_line(rf"^{re.escape(str(path))}: is damaged \(checksum mismatch\); {FIX[file]}$", RunError):
            gone_on_with(run)
        assert contents(run) == before


@pytest.mark.parametrize("file", ["metrics.csv", "events", NEWEST])
def test_what_may_be_deleted_is_no_obstacle(run: Path, whole: Path, file: str) -> None:
    path = file_of(run, file)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    gone_on_with(run)
    last = Path("checkpoints") / "step-000000006"
    assert contents(run / last) == contents(whole / last)
    assert read_run(run).timeline == read_run(whole).timeline is not None


def test_a_run_whose_last_checkpoint_was_deleted_reaches_its_end_again(
    whole: Path, tmp_path: Path, cli: Commands
) -> None:
    run, last = shutil.copytree(whole, tmp_path / "run"), Path("checkpoints") / "step-000000006"
    gone_on_with(run)
    shutil.rmtree(run / last)
    cli("resume", run)
    assert contents(run / last) == contents(whole / last)


def test_a_damaged_result_is_written_anew_without_it(run: Path, cli: Commands) -> None:
    gone_on_with(run)
    whole = (run / "result.json").read_bytes()
    (run / "result.json").write_bytes(whole.replace(b"done", b"gone"))
    line = "result.json: is damaged (checksum mismatch); delete it, and it will be written again"
    assert cli.refused("resume", run).endswith(line)
    (run / "result.json").unlink()
    gone_on_with(run)
    assert result(run) == {**json.loads(whole), "seconds": 0, "run_dir": ""}


def test_no_digest_covers_newer_rows(run: Path, cli: Commands) -> None:
    """Of a run that goes on, or was killed, rows after the newest checkpoint are read as they are."""
    table, report = run / "metrics.csv", run.parent / "report.html"
    before = table.read_bytes()
    table.write_bytes(before + b"5,agent,n2,loss,0.5\n6,agent,n2,lo")
    found = json.loads((run / "run.json").read_text())["files"]
    files = {name: entry for name, entry in found.items() if name != "result.json"}
    rewrite_facts(run, exit="running", finished=None, files=files)
    cli("report", run, "-o", report)
    assert cli.err == ""
    gone_on_with(run)
    assert b"5,agent,n2,loss,0.5" not in table.read_bytes()


def test_a_run_that_ended_before_its_first_checkpoint_says_that_it_begins_anew(
    tmp_path: Path, cli: Commands
) -> None:
    run = trained(tmp_path / "run", 1)
    shutil.rmtree(run / "checkpoints")
    rewrite_facts(run, exit="running", finished=None, step=0, checkpoints={})
    cli("resume", run)
    assert "run: ended before its first checkpoint, so it begins anew, at step 0" in cli.err


def test_a_checkpoint_that_the_run_knows_nothing_of_is_not_gone_on_from(run: Path) -> None:
    with Simulation.load(run) as simulation:
        simulation.step()
        simulation.save(run / "checkpoints/step-000000005")
    with one_line("run.json has no checkpoint of step 5; resume from another one", RunError):
        Simulation.resume(run)


# --- what somebody wrote by hand, with the digests that belong to it ------------------------------------------


WRONG: list[dict[str, Any]] = [
    *({key: ...} for key in ("exit", "files", "checkpoints")),
    *({"threads": value} for value in ("1", None, True)),
    *({"dtype": value} for value in (3, "int9")),
    *({"values": value} for value in ("x", [1])),
    *({"template": value} for value in (1, {}, {"source": "x", "text": 3})),
    {"variant": 3},
    {"parts": [2]},
    {"virtual": "x"},
    {"together": [0, "1"]},
    {"changes": [3]},
    {"weights": [{"step": None}]},
    {"matmul_precision": 3},
]


def test_what_run_json_needs_is_there_and_of_its_kind(run: Path, cli: Commands) -> None:
    whole = (run / "run.json").read_bytes()
    for change in WRONG:
        (run / "run.json").write_bytes(whole)
        rewrite_facts(run, **change)
        with one_line(r"run\.json: cannot be used \(.*\); restore it from a copy", RunError):
            gone_on_with(run)
    for content in ("{", "[1]"):
        (run / "result.json").write_text(content)
        (run / "run.json").write_bytes(whole)
        resign(run, files={"result.json": {}})
        assert "result.json: cannot be used (" in cli.refused("resume", run)


def _system(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["state"]["system"]
    return found


def _reshaped(content: dict[str, Any]) -> None:
    own = _system(content)["learners"]["n0"]["parameters"]
    own["0.weight"] = own["0.bias"]


Change = Callable[[dict[str, Any]], object]
CHANGES: list[tuple[Change, str]] = [
    *((lambda c, key=key: c.pop(key), rf"cannot be used \(no '{key}'\)") for key in ("scenario", "seed", "dtype")),
    (lambda c: c.update(dtype="int8"), r"cannot be used \(dtype 'int8'\)"),
    *((lambda c, key=key: c.update({key: 3}), "cannot be used") for key in ("dtype", "scenario")),
    (lambda c: c.update(seed="x"), "cannot be used"),
    *((lambda c, key=key: c["state"].pop(key), "cannot be used") for key in ("now", "means", "present", "system", "env")),
    (lambda c: c["state"]["env"].pop("example"), r"cannot be used \(no 'example'\)"),
    (lambda c: _system(c)["learners"].pop("n0"), r"agents: n0 in the scenario alone"),
    (_reshaped, r"agents\.n0\.parameters\.0\.weight: \[4\] of float32 in"),
    (lambda c: _system(c)["groups"][0].update(window=[]), "cannot be used"),
    (lambda c: c["state"]["present"].update(label=c["state"]["present"]["image"]), r"signals\.label: \[8, 1, 8, 8\] of float32 in"),
    (lambda c: _system(c)["ledgers"]["n0->n1"]["messages"][0].pop("stamp"), r"cannot be used \(no 'stamp'\)"),
]  # fmt: skip


def test_a_state_of_another_form_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # of a long path the line would have the ends alone
    text = (run / NEWEST / "state.json").read_text()
    (run / NEWEST).rename("changed")
    for change, reason in CHANGES:
        content = json.loads(text)
        change(content)
        rewrite_state(Path("changed"), json.dumps(content))
        with one_line(f"^changed.*{reason}", RunError):
            Simulation.load("changed")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"state": {"a": {"\\u0000tensor": "x"}}}', "[" * 100_000])
def test_a_state_json_that_is_no_state_is_one_line(run: Path, text: str) -> None:
    rewrite_state(run / NEWEST, text)
    with one_line(r"step-000000004: cannot be used \(", RunError):
        Simulation.load(run / NEWEST)
