"""The script that freezes numbers and compares them finds every change, and nothing where there is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from benchmarks import frozen_numbers

_CHOSEN = ("digits-mlp.locked", "copy.decoupled")


def _run(task: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["frozen_numbers.py", task, str(folder), *_CHOSEN])
    with pytest.raises(SystemExit) as left:
        frozen_numbers.main()
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two scenarios on both backends."""
    folder = tmp_path_factory.mktemp("frozen")
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert _run("write", folder, monkeypatch) == 0
    return folder


def test_what_was_just_frozen_is_equal(
    frozen: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("compare", frozen, monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 2 * 2  # scenarios, backends, fresh and resumed
    assert all(line.startswith("ok") for line in lines)


@pytest.mark.parametrize("key", ["60/learners/n0/parameters/0.weight", "17/loss/n3"])
def test_a_number_that_differs_is_found(
    key: str, frozen: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = frozen / "digits-mlp.locked.cohort.safetensors"
    before = load_file(place)
    try:
        save_file({**before, key: before[key] + 1e-9}, place)
        assert _run("compare", frozen, monkeypatch) == 1
    finally:
        save_file(before, place)
    apart = [line for line in capsys.readouterr().out.splitlines() if line.startswith("DIFF")]
    assert apart
    assert all("digits-mlp.locked.cohort" in line and key in line for line in apart)


def test_a_figure_that_is_missing_is_found(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = frozen / "copy.decoupled.reference.json"
    before = place.read_text()
    try:
        row = json.loads(before)
        row.popitem()
        place.write_text(json.dumps(row))
        assert _run("compare", frozen, monkeypatch) == 1
    finally:
        place.write_text(before)


def test_a_scenario_that_is_not_frozen_is_no_agreement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run("compare", tmp_path, monkeypatch) == 1
