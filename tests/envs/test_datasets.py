"""Data sets: found, read, split, downloaded, and refused in one line where a file is damaged."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antiphon import envs
from antiphon.envs import datasets
from antiphon.envs.datasets import DATA_SETS
from antiphon.errors import DataError
from tests.envs.made import message

MNIST = {
    "train-images-idx3-ubyte": (24, 28, 28),
    "train-labels-idx1-ubyte": (24,),
    "t10k-images-idx3-ubyte": (13, 28, 28),
    "t10k-labels-idx1-ubyte": (13,),
}
ROWS = 20
"""Pictures in each file of CIFAR-10."""
CIFAR = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """The folder that ANTIPHON_DATA names."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(datasets, "_CIFAR10_ROWS", ROWS)
    return tmp_path / "data"


def idx(shape: tuple[int, ...], top: int = 10) -> bytes:
    rng = np.random.default_rng(len(shape))
    values = rng.integers(0, top if len(shape) == 1 else 256, shape, dtype=np.uint8)
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + values.tobytes()


def write_mnist(folder: Path) -> Path:
    """Write a small set of MNIST's four files, two of them gzipped."""
    folder.mkdir(parents=True)
    for name, shape in MNIST.items():
        content, packed = idx(shape), "train" in name
        (folder / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(content) if packed else content
        )
    return folder


def cifar(number: int) -> bytes:
    records = np.random.default_rng(number).integers(0, 256, (ROWS, 3073), dtype=np.uint8)
    records[:, 0] = (np.arange(ROWS) + number) % 10
    return records.tobytes()


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_what_is_embedded_is_as_it_says_and_needs_no_files(name: Any, cache: Path) -> None:
    found = DATA_SETS[name].load()
    shown = envs.describe({"id": "antiphon/Digits-v0", "data": name})
    assert shown.example_counts == {split: len(rows) for split, rows in found.splits.items()}
    every = np.concatenate(list(found.splits.values()))
    assert np.array_equal(np.sort(every), np.arange(len(found.labels)))
    digest = {"digits": "fa70cba135d4cdd4", "shapes": "b5fc96c6c5c379a2"}[name]
    assert hashlib.md5(found.pixels.tobytes()).hexdigest()[:16] == digest
    assert not cache.exists()


def test_any_set_in_mnists_files_is_read_once_split_and_read_again_when_it_changes(data: Path) -> None:
    folder = write_mnist(data / "mnist")
    found = DATA_SETS["mnist"].load()
    assert found.pixels.shape == (37, 28, 28)
    assert {name: len(rows) for name, rows in found.splits.items()} == DATA_SETS["mnist"].counts()
    assert DATA_SETS["mnist"].counts() == {"train": 22, "validation": 2, "test": 13}

    def shown() -> tuple[torch.Tensor, list[int]]:
        env = envs.make({"id": "antiphon/Mnist-v0"}, batch=2)
        return env._table.columns["image"], next(env.batches("test", 13))["label"].tolist()  # type: ignore[attr-defined]

    pixels, labels = shown()
    assert labels == found.labels[found.splits["test"]].tolist()
    assert shown()[0] is pixels
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:8] + bytes(13))
    assert shown()[1] == [0] * 13


def test_the_six_files_of_cifar10_are_read_and_split(data: Path) -> None:
    (data / "cifar10").mkdir()
    for number, name in enumerate(CIFAR):
        (data / "cifar10" / name).write_bytes(cifar(number))
    found = DATA_SETS["cifar10"].load()
    records = np.frombuffer(b"".join(map(cifar, range(6))), np.uint8).reshape(-1, 3073)
    assert np.array_equal(found.labels, records[:, 0])
    assert np.array_equal(found.pixels.reshape(120, -1), records[:, 1:])
    rows = {name: rows.tolist() for name, rows in found.splits.items()}
    assert rows == {"train": [*range(90)], "validation": [*range(90, 100)], "test": [*range(100, 120)]}


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("train-images-idx3-ubyte.gz", b"not gzip at all", "cannot be read (Not a gzipped file"),
        ("t10k-images-idx3-ubyte", idx((13, 28, 28))[:-5], "cannot be read (cannot reshape"),
        ("t10k-images-idx3-ubyte", b"", "cannot be read (index out of range"),
        ("t10k-images-idx3-ubyte", idx((13, 32, 32)), "images are (13, 32, 32), not (13, 28, 28)"),
        ("t10k-labels-idx1-ubyte", idx((13,), 256), "label 2"),
    ],
)
def test_a_damaged_file_is_one_line(data: Path, name: str, content: bytes, line: str) -> None:
    path = write_mnist(data / "mnist") / name
    path.write_bytes(content)
    assert f"{path}: {line}" in message(DATA_SETS["mnist"].load)


def test_data_that_are_nowhere_say_how_to_get_them(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mnist", "cifar10"):
        text = message(DATA_SETS[name].load)
        assert f"ANTIPHON_DATA is '{data}', which has no folder {name}" in text
        assert f"antiphon.envs.download('{name}')" in text
    assert envs.describe({"id": "antiphon/Mnist-v0"}).example_counts["train"] == 55_000
    path = write_mnist(data / "mnist") / "train-labels-idx1-ubyte.gz"
    path.unlink()
    assert message(DATA_SETS["mnist"].counts).startswith(f"{path.with_suffix('')}[.gz]: no such file")
    with pytest.raises(DataError, match="no data set 'mnits' to download; did you mean 'mnist'"):
        envs.download("mnits")


def test_downloads_fill_the_cache_once_and_refuse_another_checksum(
    served: tuple[Path, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    packed = {name: gzip.compress(idx(shape)) for name, shape in MNIST.items()}
    for name, content in packed.items():
        (folder / f"{name}.gz").write_bytes(content)
    archive = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for number, name in enumerate(CIFAR):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(cifar(number))
            tar.addfile(info, io.BytesIO(cifar(number)))
    sums = {name: f"md5:{hashlib.md5(content).hexdigest()}" for name, content in packed.items()}
    for key, value in (("_MNIST_HOST", address), ("_CIFAR10_HOST", address), ("_MNIST", sums)):
        monkeypatch.setattr(datasets, key, value)
    assert "download failed" in message(lambda: envs.download("cifar10"))
    assert not list(cache.rglob("*.bin"))
    checksum = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
    monkeypatch.setattr(datasets, "_CIFAR10_CHECKSUM", checksum)
    for _ in range(2):
        assert envs.download("mnist") == cache / "mnist"
        assert envs.download("cifar10") == cache / "cifar10"
        assert DATA_SETS["cifar10"].load().pixels.shape == (120, 3, 32, 32)
        assert DATA_SETS["mnist"].counts() == {"train": 22, "validation": 2, "test": 13}
        for path in folder.iterdir():  # the second time nothing is fetched
            path.unlink()


@pytest.mark.data
def test_the_real_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = DATA_SETS["mnist"].load()
    assert DATA_SETS["mnist"].counts() == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert hashlib.md5(found.labels[:60_000].tobytes()).hexdigest() == "e86ee40d66677c011a9abda399ec8c4d"
    envs.check_vector_env(lambda: envs.make({"id": "antiphon/Mnist-v0", "hold": 2, "patches": 32}, batch=8))
