"""Small files that unpack to much: refused before they fill the memory."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiphon.envs.datasets import columns, dataset_files, idx, texts
from tests.envs.made import message

ZEROS = 64 * 2**20
"""Bytes that a bomb of these tests unpacks to."""


@pytest.fixture(scope="module")
def zeros() -> bytes:
    """Very many zeros, gzipped."""
    return gzip.compress(bytes(ZEROS), 1)


def cheap(refuse: Callable[[], Any]) -> str:
    """Return the line of a refusal that takes less memory than a tenth of the zeros."""
    tracemalloc.start()
    try:
        line = message(refuse)
        assert tracemalloc.get_traced_memory()[1] < ZEROS / 10
    finally:
        tracemalloc.stop()
    return line


def idx_header(*shape: int) -> bytes:
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


def test_an_idx_file_that_unpacks_to_more_than_it_promises(tmp_path: Path, zeros: bytes) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_header(2, 3, 4)) + zeros)
    expected = f"{path}: too long: its header says 2x3x4 bytes, the file has more; mend it"
    assert cheap(lambda: idx.read(path, 3, "mend it")) == expected
    assert idx.read_shape(path, 3, "mend it") == (2, 3, 4)


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_an_idx_file_that_promises_more_than_the_memory(tmp_path: Path, name: str) -> None:
    path, header = tmp_path / name, idx_header(2**32 - 1, 2**32 - 1, 2**32 - 1)
    path.write_bytes(gzip.compress(header) if name.endswith("gz") else header)
    line = cheap(lambda: idx.read(path, 3, "mend it"))
    assert line.startswith(f"{path}: its data take 79,228,162,")
    assert line.endswith("of this machine's memory (" + f"{dataset_files.most_bytes():,}); mend it")


def test_an_archive_of_columns_that_unpacks_to_more_than_the_memory(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x.npy", bytes(ZEROS))
    monkeypatch.setattr(dataset_files, "most_bytes", lambda: ZEROS - 1)
    line = cheap(lambda: columns.read(path))
    assert line.startswith(f"{path}: its data take {ZEROS:,} bytes, more than half of this machine's memory")
    assert line.endswith("split it into smaller files, or save it as .safetensors")


def test_a_column_with_a_shape_that_it_does_not_have(tmp_path: Path) -> None:
    """Numpy makes room for what the header says, which no machine has."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"shape": (2**50,), "fortran_order": False, "descr": "<f8"})
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member.getvalue())
    assert message(lambda: columns.read(path)).startswith(f"{path}: cannot be read (")


def test_a_text_that_is_too_long_is_refused_unread(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "text"
    with path.open("wb") as file:
        file.truncate(dataset_files.most_bytes() // 32 + 1)  # a hole: no disk is taken
    assert cheap(lambda: texts.load(str(path))).endswith("use a shorter text")
