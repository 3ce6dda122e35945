"""Damaged and hostile data files: each is read, or refused in one line that begins with its path."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as to_safetensors

from antiphon.envs import datasets
from antiphon.envs import text as texts
from antiphon.envs.datasets import read_columns
from antiphon.errors import DataError
from tests.fuzz.conftest import Case, Cases
from tests.fuzz.mutation import mutated

RECORD = 1 + 3 * 32 * 32
FILES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def idx_of(array: np.ndarray[Any, Any]) -> bytes:
    """Return the content of an IDX file of bytes."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def noise(*shape: int, below: int = 256) -> np.ndarray[Any, Any]:
    """Return the same random bytes at every call."""
    return np.random.default_rng(0).integers(0, below, shape, dtype=np.uint8)


def npz() -> bytes:
    """Return an archive of three columns, one of them compressed."""
    file = io.BytesIO()
    np.savez(file, image=noise(6, 4), label=np.arange(6))
    with (
        zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("extra.npy", "w") as member,
    ):
        np.save(member, noise(6, 3).astype(np.float32))
    return file.getvalue()


def refused_or(read: Callable[[], Any], path: Path) -> None:
    """Check that a file is read, or refused in one short line that begins with its path."""
    try:
        read()
    except DataError as error:
        line = str(error)
        assert line.startswith(str(path.parent)) or path.parent.as_posix() in line, line
        assert line.isprintable(), repr(line)
        assert len(line) <= 300 + len(str(path)), line


def gzipped(case: Case, content: bytes) -> bytes:
    """Return a content gzipped and damaged: before or after, or with more behind it."""
    way = case.choice(("inside", "outside", "both", "members"))
    case.log.append(way)
    if way in ("inside", "both"):
        content = mutated(case, content)
    packed = gzip.compress(content, 1, mtime=0)
    if way in ("outside", "both"):
        packed = mutated(case, packed)
    if way == "members":
        packed += gzip.compress(bytes(case.choice((1, 1000, 10**7))), 9, mtime=0) * case.choice((1, 3))
    return packed


def columns_of(kind: str) -> bytes:
    """Return the content of a file of columns."""
    own = {"x": noise(6, 4).astype(np.float32), "label": np.arange(6)}
    return npz() if kind == "npz" else to_safetensors(own)


TEXT = ("Call me Ishmael. Some years ago — never mind how long 𝄞\r\n" * 20).encode()
KINDS: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    "images": (idx_of(noise(5, 28, 28)), datasets._idx),
    "images.gz": (idx_of(noise(5, 28, 28)), datasets._idx),
    "data.npz": (columns_of("npz"), read_columns),
    "data.safetensors": (columns_of("safetensors"), read_columns),
    "text": (TEXT, lambda path: texts.load(str(path))),
}
"""Contents of files by their names, and what reads them."""


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_line(cases: Cases, tmp_path: Path, name: str) -> None:
    (content, read), path = KINDS[name], tmp_path / name

    def try_one(case: Case) -> None:
        path.write_bytes(gzipped(case, content) if path.suffix == ".gz" else mutated(case, content))
        refused_or(lambda: read(path), path)

    cases(try_one, 20)
