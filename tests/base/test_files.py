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


@pytest.mark.parametrize("version", [files.FORMAT - 1, files.FORMAT + 1])
def test_a_file_of_another_version_is_refused(path: Path, version: int) -> None:
    files.write_json(path, {"format": version, "antiphon": "9.9"})
    line = rf"^{path}: was written by antiphon 9.9 \(format {version}, here {files.FORMAT}\); read it with that version"
    with pytest.raises(RunError, match=line):
        files.read_json(path)
