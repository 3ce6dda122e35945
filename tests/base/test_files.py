"""Files of run directories: what is refused unread, what is read, and what is on the disk when a write returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon.base import files
from antiphon.errors import RunError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


TOUCH: list[Callable[[Path], Any]] = [
    files.read_bytes,
    files.open_binary,
    lambda path: list(files.read_rows(path)),
    lambda path: files.open_text(path, append=True),
    lambda path: files.cut(path, 0),
    lambda path: files.write_text(path, "new"),
]
KINDS: list[Callable[[Path], Any]] = [
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to(path.with_name("elsewhere")),
    lambda path: path.symlink_to("nowhere"),
    os.mkfifo,
    os.mkdir,
]


@pytest.mark.parametrize("touch", TOUCH)
@pytest.mark.parametrize("make", KINDS)
def test_what_is_no_file_of_its_own_is_neither_read_nor_written_nor_waited_for(
    path: Path, touch: Callable[[Path], Any], make: Callable[[Path], Any]
) -> None:
    other = path.with_name("elsewhere")
    other.write_text("{}")
    make(path)
    before = os.lstat(path)
    with pytest.raises((RunError, OSError)) as found, files.writing(path):
        touch(path)
    assert isinstance(found.value, RunError)
    assert str(path) in str(found.value)
    assert (os.lstat(path).st_ino, other.read_text()) == (before.st_ino, "{}")
    assert sorted(each.name for each in path.parent.iterdir()) == ["elsewhere", "run.json"]


def test_what_is_too_large_is_not_read(path: Path) -> None:
    path.write_bytes(b"x" * 11)
    assert files.read_bytes(path, 11) == b"x" * 11
    with pytest.raises(RunError, match=r"run.json: has 11 bytes, more than 10; restore it from a copy$"):
        files.read_bytes(path, 10)
    os.truncate(path, 2**40)  # sparse
    with pytest.raises(RunError, match=r"has 1,099,511,627,776 bytes, more than"):
        files.read_bytes(path)


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


def test_a_row_that_was_half_written_is_left_out(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text("step,value\n1,2.5\n2,3", encoding="utf-8")
    assert list(files.read_rows(table, ("step", "value"))) == [["1", "2.5"]]
