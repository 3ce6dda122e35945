"""Files of run directories: what is read, and what is on the disk when a write returns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from antiphon.base import files
from antiphon.errors import RunError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


def test_what_is_written_is_on_the_disk_before_it_gets_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (done.append(os.readlink(f"/proc/self/fd/{n}")), fsync(n)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    files.write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n  "a": null\n}\n'
    assert [Path(entry).name[:9] for entry in done] == [".run.json", "replace", path.parent.name[:9]]


def test_half_written_files_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".run.json.0123abcd.tmp").write_text("{")
    kept = [".notes", ".notes.tmp", "run.json.0123abcd.tmp", ".run.json.0123abcd"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".folder.0123abcd.tmp").mkdir()
    files.remove_temporary(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, ".folder.0123abcd.tmp"}


@pytest.mark.parametrize("version", [files.FORMAT - 1, files.FORMAT + 1])
def test_a_file_of_another_version_is_refused(path: Path, version: int) -> None:
    files.write_json(path, {"format": version, "antiphon": "9.9"})
    line = rf"^{path}: was written by antiphon 9.9 \(format {version}, here {files.FORMAT}\); read it with that version"
    with pytest.raises(RunError, match=line):
        files.read_json(path)


def test_a_file_that_is_missing_or_half_there_is_a_line(path: Path) -> None:
    with pytest.raises(RunError, match=rf"^{path}: cannot be read \(No such file or directory\)$"):
        files.read_json(path)
    path.write_text('{"format"')
    with pytest.raises(RunError, match=rf"^{path}: cannot be read \("):
        files.read_json(path)
