"""IDX files: what is read, and one clear line about each way in which a file can be broken."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from antiphon.envs.datasets import idx
from tests.envs.made import message


def encode(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


CUBE = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("packed", [False, True])
def test_reads_what_was_written(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("cube.gz" if packed else "cube")
    path.write_bytes(gzip.compress(encode(CUBE)) if packed else encode(CUBE))
    assert np.array_equal(idx.read(path, 3, "mend it"), CUBE)
    assert idx.read_shape(path, 3, "mend it") == (2, 3, 4)


BROKEN = {
    "missing": (None, "cannot be read (No such file or directory)"),
    "empty": (b"", "starts with nothing"),
    "other magic": (b"\x00\x00\x09\x03" + encode(CUBE)[4:], "starts with 00000903, not 00000803"),
    "short header": (encode(CUBE)[:9], "truncated in its header"),
    "truncated": (encode(CUBE)[:-5], "truncated: its header says 2x3x4 bytes, the file has 19"),
    "too long": (encode(CUBE) + b"!", "too long: its header says 2x3x4 bytes, the file has more"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_files_are_named_with_fault_and_mend(tmp_path: Path, fault: str) -> None:
    content, expected = BROKEN[fault]
    path = tmp_path / "cube"
    if content is not None:
        path.write_bytes(content)
    text = message(lambda: idx.read(path, 3, "mend it"))
    assert text.startswith(f"{path}: ")
    assert expected in text
    assert text.endswith("; mend it")


def test_corrupt_gzip_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    path, sound = tmp_path / "cube.gz", gzip.compress(encode(noise))
    middle = len(sound) // 2
    for broken in (sound[:middle], sound[:middle] + bytes(8) + sound[middle + 8 :], b"not gzip at all"):
        path.write_bytes(broken)
        assert message(lambda: idx.read(path, 3, "mend it")).startswith(f"{path}: corrupt gzip file")
