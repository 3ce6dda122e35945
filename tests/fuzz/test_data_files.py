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

from antiphon.envs.datasets import cifar10, columns, idx, mnist, texts
from antiphon.errors import DataError
from tests.fuzz.conftest import Case, Cases
from tests.fuzz.mutation import mutated

MEND = "replace it by a sound copy"
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


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_idx_files(cases: Cases, tmp_path: Path, packed: bool) -> None:
    content, path = idx_of(noise(5, 28, 28)), tmp_path / ("images.gz" if packed else "images")

    def try_one(case: Case) -> None:
        path.write_bytes(gzipped(case, content) if packed else mutated(case, content))
        for read in (idx.read, idx.read_shape):
            refused_or(lambda: read(path, 3, MEND), path)  # noqa: B023

    cases(try_one, 60)


def test_a_folder_of_mnist(cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    whole = {
        f"{part}-{kind}": idx_of(noise(24, 28, 28) if kind[0] == "i" else noise(24, below=10))
        for part in ("train", "t10k")
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    }

    def try_one(case: Case) -> None:
        damaged = case.choice(sorted(whole))
        case.log.append(damaged)
        for name, content in whole.items():
            (folder / name).write_bytes(mutated(case, content) if name == damaged else content)
        for read in (mnist.counts, mnist.load):
            refused_or(read, folder / damaged)

    cases(try_one, 40)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_files_of_columns(cases: Cases, tmp_path: Path, kind: str) -> None:
    content = {
        "npz": npz,
        "safetensors": lambda: to_safetensors({"x": noise(6, 4).astype(np.float32), "label": np.arange(6)}),
    }[kind]()
    path = tmp_path / f"data.{kind}"

    def try_one(case: Case) -> None:
        path.write_bytes(mutated(case, content))
        refused_or(lambda: columns.read(path), path)

    cases(try_one, 60)


def test_files_of_cifar10(cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar10"
    folder.mkdir()
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    monkeypatch.setattr(cifar10, "_ROWS", 20)
    content = noise(20 * RECORD, below=10).tobytes()
    for name in FILES:
        (folder / name).write_bytes(content)

    def try_one(case: Case) -> None:
        path = folder / case.choice(FILES)
        path.write_bytes(mutated(case, content))
        refused_or(cifar10.load, path)
        path.write_bytes(content)

    cases(try_one, 30)


def test_texts(cases: Cases, tmp_path: Path) -> None:
    content = ("Call me Ishmael. Some years ago — never mind how long 𝄞\r\n" * 20).encode()
    path = tmp_path / "text"

    def try_one(case: Case) -> None:
        path.write_bytes(case.choice((mutated(case, content), case.randbytes(400))))
        refused_or(lambda: texts.load(str(path)), path)

    cases(try_one, 60)
