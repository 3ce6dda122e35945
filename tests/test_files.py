"""Files of run directories: what is refused unread, what is read, and what is on the disk when a write returns."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon import files
from antiphon.errors import RunError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


READERS: list[Callable[[Path], Any]] = [
    files.read_bytes,
    files.read_text,
    files.read_json,
    files.read_object,
    files.digest_of,
    files.open_binary,
    lambda path: list(files.read_rows(path)),
    lambda path: files.open_text(path, append=True),
]


KINDS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path.symlink_to("/dev/zero"), "a link"),
    (lambda path: path.symlink_to(path.with_name("elsewhere")), "a link"),
    (lambda path: path.symlink_to("nowhere"), "a link"),
    (lambda path: path.symlink_to(path.name), "a link"),
    (os.mkfifo, "a FIFO"),
    (os.mkdir, "a folder"),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("make", "what"),
    KINDS,
)
def test_what_is_no_file_of_its_own_is_refused_unopened(
    path: Path, read: Callable[[Path], Any], make: Callable[[Path], Any], what: str
) -> None:
    path.with_name("elsewhere").write_text("{}")
    make(path)
    with pytest.raises(
        RunError, match=rf"run.json: is {what}, which a run directory does not hold; replace it"
    ):
        read(path)


@pytest.mark.parametrize(
    "make", [lambda path: path.symlink_to(path.parent), lambda path: path.write_text("")]
)
def test_a_folder_is_no_link_and_no_file(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    files.check_folder(tmp_path / "checkpoints")  # nothing is there yet
    files.check_folder(tmp_path)
    make(tmp_path / "checkpoints")
    with pytest.raises(
        RunError, match=r"checkpoints: is (a link|no folder), which a run directory does not hold"
    ):
        files.check_folder(tmp_path / "checkpoints")


def test_what_is_too_large_is_not_read(path: Path) -> None:
    path.write_bytes(b"x" * 11)
    assert files.read_bytes(path, 11) == b"x" * 11
    with pytest.raises(
        RunError, match=r"run.json: has 11 bytes, more than 10; restore the file from a copy$"
    ):
        files.read_bytes(path, 10)
    os.truncate(path, 2**40)  # sparse
    with pytest.raises(RunError, match=r"has 1,099,511,627,776 bytes, more than"):
        files.read_json(path)


def test_a_byte_that_is_no_text_is_named_with_its_line(path: Path) -> None:
    path.write_bytes(b"a\nb\xff")
    with pytest.raises(RunError, match=r"run.json:2: is damaged \(byte 3 is not UTF-8\); restore"):
        files.read_text(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        "[" * 100_000,
        "[" * 65 + "]" * 65,
        '{"a":' * 100 + "1" + "}" * 100,
        "9" * 5000,
    ],
)
def test_what_is_no_json_of_finite_numbers_is_one_short_line(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RunError) as found:
        files.read_json(path, fix="delete it")
    line = str(found.value).removeprefix(str(path))
    assert line.startswith(": is damaged (")
    assert line.endswith("; delete it")
    assert len(line) < 200
    assert line.isprintable()


def test_what_is_json_is_read_whatever_is_in_its_strings(path: Path) -> None:
    content = {
        "a": "[" * 200 + '"\\' + "{" * 200,
        "b": [1, 2.5, None, True, "ü\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    assert files.read_json(path) == content
    deep = "[" * files.DEPTH + "]" * files.DEPTH
    path.write_text(deep, encoding="utf-8")
    assert str(files.read_json(path)).replace(" ", "") == deep


def test_json_that_would_take_too_much_memory_is_refused_before_it_is_parsed(path: Path) -> None:
    path.write_bytes(b"[" + b"[]," * 3_000_000 + b"0]")
    with pytest.raises(RunError, match=r"is damaged \([0-9,]+ items\)"):
        files.read_json(path)


def test_an_object_is_checked(path: Path) -> None:
    def check(content: dict[str, Any]) -> None:
        if content["a"] < 0:
            raise ValueError("a: is\nnegative")

    assert files.read_object(path) == {}
    for text, reason in (('{"a": -1}', "a: is negative"), ("{}", "no 'a'"), ("[]", "no object")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(RunError, match=rf"run.json: is damaged \({reason}\); restore"):
            files.read_object(path, check)
    path.write_text('{"a": 1}', encoding="utf-8")
    assert files.read_object(path, check) == {"a": 1}


def test_a_line_without_end_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LINE", 10)
    path.write_text("123456789\n12345678901", encoding="utf-8")
    with pytest.raises(RunError, match=r"run.json:2: has a line of more than 10 characters"):
        list(files.read_rows(path))
    path.write_text('a,"\nx', encoding="utf-8")
    assert list(files.read_rows(path)) == []


def test_what_is_written_is_on_the_disk_before_it_gets_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (done.append(os.readlink(f"/proc/self/fd/{n}")), fsync(n)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    files.write_json(path, {"a": float("nan")})
    assert files.read_json(path) == {"a": None}
    assert [Path(entry).name[:9] for entry in done] == [".run.json", "replace", path.parent.name[:9]]


def test_a_file_system_that_writes_nothing_through_is_no_obstacle(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> OSError:
        def fsync(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)
        return OSError(number, "")

    refuse(errno.EINVAL)
    files.write_text(path, "new")
    assert path.read_text() == "new"
    refuse(errno.EIO)
    with pytest.raises(RunError, match=r"run.json: cannot be written \(Input/output error\)"):
        files.write_text(path, "newer")
    assert path.read_text() == "new"
    assert [item.name for item in path.parent.iterdir()] == ["run.json"]


@pytest.mark.parametrize(("make", "what"), KINDS)
def test_what_is_no_file_of_its_own_is_not_replaced(
    path: Path, make: Callable[[Path], Any], what: str
) -> None:
    make(path)
    before = os.lstat(path)
    with pytest.raises(RunError, match=f"run.json: is {what}, which"):
        files.write_text(path, "new")
    with pytest.raises(RunError, match=f"run.json: is {what}, which"), files.rewriting(path):
        pass
    assert os.lstat(path).st_ino == before.st_ino
    assert list(path.parent.glob(".*")) == []
