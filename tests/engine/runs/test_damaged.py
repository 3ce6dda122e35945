"""Damaged files of a run directory: one line with the file and the fix, and a run that is as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.facts import check_facts, check_result
from antiphon.engine.runs.run import Run, resume
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from antiphon.scenarios import load


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    scenario = load("digits-mlp").resolve(None, {"depth": 3, "width": 4, "batch": 8})
    with Simulation(scenario, logdir=path, checkpoint_every=2) as simulation:
        simulation.run(4)
    return path


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "run")


def changed(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        if value is ...:
            del content[key]
        else:
            content[key] = value
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    "value",
    [
        *(
            {key: ...}
            for key in ("exit", "warnings", "device", "backend", "threads", "steps", "seed", "dtype")
        ),
        *({"threads": value} for value in (0, -1, 10**9, "1", None, 1.5, True)),
        *({"steps": value} for value in (-1, 10**30, "6", None)),
        *({"seconds": value} for value in (-1, 1e300, "x", None)),
        {"dtype": "int8"},
        {"matmul_precision": "low"},
        {"warnings": [1]},
        {"values": []},
        {"command": "x"},
        {"changes": [[1, 2]]},
        {"parts": {"placement": {"n0": -1}}},
        {"virtual": {}},
        {"virtual": {"profile": {"clustep": "x"}, "free": {}, "step_seconds": [1.0]}},
        {"weights": [{"agent": "n0"}]},
        {"together": ["0"]},
    ],
    ids=str,
)
def test_what_run_json_needs_is_there_and_of_its_kind(run: Path, value: dict[str, Any]) -> None:
    changed(run / "run.json", **value)
    with pytest.raises(
        RunError, match=rf"run.json: is damaged \(.*{next(iter(value))}.*\); restore the file"
    ) as found:
        RunDirectory.open(run)
    assert str(found.value).isprintable()


def test_what_runs_write_is_accepted(original: Path) -> None:
    check_facts(json.loads((original / "run.json").read_text(encoding="utf-8")))
    check_result(json.loads((original / "result.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "value",
    [
        {"agents": []},
        {"steps": -4},
        {"examples": ...},
        {"env": {"x": "y"}},
        {"variant": ...},
        {"channels": {"n0->n1": {}}},
    ],
    ids=str,
)
def test_a_damaged_result_is_one_line_and_is_written_anew_without_it(
    run: Path, value: dict[str, Any]
) -> None:
    changed(run / "run.json", steps=4, exit="done")
    whole = (run / "result.json").read_bytes()
    changed(run / "result.json", **value)
    with pytest.raises(RunError, match=r"result.json: is damaged \(.*\); delete it, and it is written anew$"):
        resume(run)
    (run / "result.json").unlink()
    again = resume(run)
    assert isinstance(again, Run)
    again.train()
    assert json.loads((run / "result.json").read_bytes())["agents"] == json.loads(whole)["agents"]


def test_a_byte_of_the_scenario_that_is_no_text_is_one_line(run: Path) -> None:
    with (run / "scenario.yaml").open("ab") as file:
        file.write(b"\xff")
    with pytest.raises(RunError, match=r"scenario.yaml:\d+: is damaged \(byte [\d,]+ is not UTF-8\)"):
        _ = RunDirectory.open(run).scenario


def test_checkpoints_behind_a_link_are_refused(run: Path, tmp_path: Path) -> None:
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"checkpoints: is a link, which a run directory does not hold"):
        resume(run, 6)


def test_a_link_to_a_run_directory_is_fine(run: Path, tmp_path: Path) -> None:
    (tmp_path / "newest").symlink_to(run)
    assert RunDirectory.open(tmp_path / "newest").checkpoint_step == 4


def test_a_name_that_is_damaged_in_the_table_is_found_before_anything_is_written(run: Path) -> None:
    changed(run / "run.json", steps=4, exit="stopped")
    content = (run / "metrics.csv").read_bytes()
    assert b",n1," in content
    (run / "metrics.csv").write_bytes(content.replace(b",n1,", b",n\xfd,", 1))
    before = {path: path.read_bytes() for path in run.glob("*") if path.is_file() and path.name != "run.lock"}
    found = resume(run, 6)
    assert isinstance(found, Run)
    with pytest.raises(RunError, match=r"metrics.csv:\d+: .* is no row of step,kind,name,metric,value"):
        found.train()
    assert before == {path: path.read_bytes() for path in before}


def test_a_run_with_a_damaged_table_is_not_gone_on_with_and_stays_as_it_was(run: Path) -> None:
    changed(run / "run.json", steps=4, exit="done")
    shutil.rmtree(run / "checkpoints" / "step-000000004")  # rows after the checkpoint would be dropped
    table = run / "metrics.csv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join([lines[0], "99999999999999999999" + lines[1][1:], *lines[2:]]), encoding="utf-8")
    before = {
        path: path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name != "run.lock"
    }
    found = resume(run, 6)
    assert isinstance(found, Run)
    with pytest.raises(
        RunError, match=r"metrics.csv:2: '99999999999999999999.*' is no row of .*; fix or remove it"
    ):
        found.train()
    assert before == {path: path.read_bytes() for path in before}


def test_a_table_that_is_a_link_is_refused(run: Path) -> None:
    changed(run / "run.json", steps=4, exit="stopped")
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").symlink_to(run / "nothing")
    found = resume(run, 6)
    assert isinstance(found, Run)
    with pytest.raises(RunError, match=r"metrics.csv: is a link, which a run directory does not hold"):
        found.train()


def test_another_checkpoint_is_gone_on_from_to_the_same_bits(run: Path, original: Path) -> None:
    changed(run / "run.json", exit="stopped")
    newest = run / "checkpoints" / "step-000000004"
    whole = (newest / "state.safetensors").read_bytes()
    with (newest / "state.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(
        RunError, match=r"\(checksum\): the checkpoint is damaged; delete it to go on from step-000000002$"
    ):
        resume(run, 4)
    shutil.rmtree(newest)
    found = resume(run, 4)
    assert isinstance(found, Run)
    found.train()
    assert (newest / "state.safetensors").read_bytes() == whole
