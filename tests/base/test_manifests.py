"""Manifests: every byte of what they list is covered, another format is one line, and nothing is trusted unverified."""

from __future__ import annotations

import hashlib
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from antiphon.base.manifests import (
    FORMAT,
    GrowingFile,
    check_entry,
    checkpoints,
    entry_of,
    read_checked,
    read_manifest,
    write_checked,
    write_manifest,
)
from antiphon.errors import RunError
from tests.engine.numbers import one_line

CONTENT: dict[str, Any] = {"format": FORMAT, "text": "ü\n", "numbers": [1, 2.5, None, True], "b": {"a": {}}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


def test_an_object_comes_back_as_it_was_written(path: Path) -> None:
    write_checked(path, {**CONTENT, "nan": float("nan")})
    assert read_checked(path) == {**CONTENT, "nan": None}
    write_checked(path, read_checked(path))
    assert read_checked(path) == {**CONTENT, "nan": None}


def test_every_changed_value_is_found(path: Path) -> None:
    write_checked(path, CONTENT)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with suppress(RunError):
            assert read_checked(path) == CONTENT  # a blank more or less


@pytest.mark.parametrize(
    ("facts", "writer"), [({"antiphon": "4.5.6"}, r"antiphon 4\.5\.6"), ({}, "another antiphon")]
)
@pytest.mark.parametrize("version", [FORMAT - 1, FORMAT + 1])
def test_another_format_is_refused_in_one_line(
    path: Path, facts: dict[str, str], writer: str, version: int
) -> None:
    write_checked(path, {**CONTENT, **facts, "format": version})
    formats = rf"\(format {version}, here {FORMAT}\)"
    with one_line(rf"was written by {writer} {formats}; read it with that version, or run again$", RunError):
        read_checked(path)


def test_a_file_that_grows_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"abc")
    growing = GrowingFile(path)
    first = growing.entry()
    assert first == {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()} == entry_of(path)
    with path.open("ab") as file:
        file.write(b"defg")
    assert growing.entry(5) == {"bytes": 5, "sha256": hashlib.sha256(b"abcde").hexdigest()}
    assert growing.entry() == entry_of(path)
    check_entry(path, first, exact=False)
    with one_line(r"table\.csv: is damaged \(checksum mismatch\); do this$", RunError):
        check_entry(path, first, "do this")
    path.write_bytes(b"ab")
    with one_line("is damaged", RunError):
        check_entry(path, first, exact=False)


# --- checkpoints ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with two checkpoints, as far as manifests know them."""
    for step in (3, 6):
        folder = tmp_path / "run" / "checkpoints" / f"step-{step:09d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"step": step, "state": {}}))
        (folder / "state.safetensors").write_bytes(bytes(range(100)))
        write_manifest(folder)
    return tmp_path / "run"


@pytest.mark.parametrize("file", ["state.json", "state.safetensors", "manifest.json"])
def test_every_flipped_bit_and_every_cut_is_one_line_that_offers_the_checkpoint_before(
    run: Path, file: str
) -> None:
    path = checkpoints(run)[-1] / file
    whole, rng = path.read_bytes(), random.Random(0)
    files = read_manifest(path.parent)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged if rng.random() < 0.7 else whole[: rng.randrange(len(whole))])
        lines: list[str] = []
        try:
            assert read_manifest(path.parent) == files
        except RunError as error:
            lines.append(str(error))
        assert lines or file == "manifest.json"  # a blank more or less
        for line in lines:
            assert str(path.parent) in line
            assert line.endswith("; delete this checkpoint to continue from step-000000003")
    path.unlink()
    with one_line(rf"{file}: is missing; delete this checkpoint to continue from step-000000003$", RunError):
        read_manifest(path.parent)
