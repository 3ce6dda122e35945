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


@pytest.mark.long
def test_what_was_frozen_is_equal_and_every_change_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("compare", tmp_path, monkeypatch) == 1, "nothing is frozen"
    assert _run("write", tmp_path, monkeypatch) == 0
    capsys.readouterr()
    assert _run("compare", tmp_path, monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 2 * 2  # scenarios, backends, fresh and resumed
    assert all(line.startswith("ok") for line in lines)
    tensors, key = tmp_path / "digits-mlp.locked.cohort.safetensors", "60/learners/n0/parameters/0.weight"
    before = load_file(tensors)
    save_file({**before, key: before[key] + 1e-9}, tensors)
    numbers = tmp_path / "copy.decoupled.reference.json"
    row = json.loads(numbers.read_text())
    missing, _ = row.popitem()
    numbers.write_text(json.dumps(row))
    assert _run("compare", tmp_path, monkeypatch) == 1
    apart = [line for line in capsys.readouterr().out.splitlines() if line.startswith("DIFF")]
    assert {line.split()[1] for line in apart} == {"digits-mlp.locked.cohort", "copy.decoupled.reference"}
    assert any(key in line for line in apart)
    assert any(missing in line for line in apart)
