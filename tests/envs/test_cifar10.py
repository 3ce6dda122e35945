"""CIFAR-10: where it is found, what is refused, and the download."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiphon import envs
from antiphon.envs.datasets import cifar10
from tests.envs.made import message

ROWS = 20
NAMES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
INSIDE = "cifar-10-batches-bin"
CIFAR = {"id": "antiphon/Cifar10-v0"}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 20 pictures instead of 10,000."""
    monkeypatch.setattr(cifar10, "_ROWS", ROWS)


def content(number: int) -> bytes:
    """Return one file: labels in turns, pictures by chance."""
    records = np.random.default_rng(number).integers(0, 256, (ROWS, 3073), dtype=np.uint8)
    records[:, 0] = (np.arange(ROWS) + number) % 10
    return records.tobytes()


CONTENTS = {name: content(number) for number, name in enumerate(NAMES)}


def plain(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, data in CONTENTS.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """The folder that ANTIPHON_DATA and the data set's name make, not yet there."""
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "cifar10"


def check_contents(found: Any) -> None:
    assert found.pixels.shape == (120, 3, 32, 32)
    records = np.frombuffer(b"".join(CONTENTS.values()), np.uint8).reshape(-1, 3073)
    assert np.array_equal(found.labels, records[:, 0])
    assert np.array_equal(found.pixels.reshape(120, -1), records[:, 1:])


@pytest.mark.parametrize("inside", [".", INSIDE])
def test_the_six_files_are_read_and_split(home: Path, inside: str) -> None:
    plain(home / inside)
    found = cifar10.load()
    check_contents(found)
    rows = {name: rows.tolist() for name, rows in found.splits.items()}
    train, validation, test = list(range(90)), list(range(90, 100)), list(range(100, 120))
    assert rows == {"train": train, "validation": validation, "test": test}


@pytest.mark.parametrize("size", [ROWS * 3073 - 1, ROWS * 3074])
def test_a_file_of_another_size(home: Path, size: int) -> None:
    path = plain(home) / NAMES[4]
    path.write_bytes(bytes(size))
    assert message(cifar10.load) == f"{path}: {size:,} bytes, not 61,460; replace it by an undamaged copy"


@pytest.fixture
def host(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive that a local server offers in place of the authors' site."""
    folder, address = served
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        for name, data in {**CONTENTS, "readme.html": b"<html>"}.items():
            info = tarfile.TarInfo(f"{INSIDE}/{name}")
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(cifar10, "_HOST", address)
    assert cifar10._CHECKSUM == "md5:c32a1d4ab5d03f1284b67883e8d87530"
    monkeypatch.setattr(cifar10, "_CHECKSUM", f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}")
    return path


def test_download_fills_the_cache_once_and_refuses_another_checksum(host: Path, cache: Path) -> None:
    sound = host.read_bytes()
    host.write_bytes(b"something else")
    assert "cifar-10-binary.tar.gz: download failed" in message(lambda: envs.download("cifar10"))
    assert not list(cache.rglob("*.bin"))
    host.write_bytes(sound)
    assert envs.download("cifar10") == cache / "cifar10"
    check_contents(cifar10.load())
    host.unlink()
    assert envs.download("cifar10") == cache / "cifar10"
