"""MNIST and its likes: where they are found, how they are split, what is refused, and the download."""

import builtins
import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antiphon import envs
from antiphon.envs.datasets import mnist
from tests.envs.made import message

FILES = {
    "train-images-idx3-ubyte": (24, 28, 28),
    "train-labels-idx1-ubyte": (24,),
    "t10k-images-idx3-ubyte": (13, 28, 28),
    "t10k-labels-idx1-ubyte": (13,),
}


def content(shape: tuple[int, ...], top: int = 10) -> bytes:
    values = np.random.default_rng(len(shape)).integers(
        0, top if len(shape) == 1 else 256, shape, dtype=np.uint8
    )
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + values.tobytes()


def write(folder: Path, **changed: tuple[int, ...]) -> Path:
    """Write a small set of MNIST's four files, two of them gzipped."""
    folder.mkdir(parents=True)
    for name, shape in FILES.items():
        data = content(changed.get(name.replace("-", "_"), shape))
        packed = "train" in name
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A folder named by ANTIPHON_DATA, with a small set in it."""
    folder = write(tmp_path / "data" / "mnist")
    monkeypatch.setenv("ANTIPHON_DATA", str(folder.parent))
    return folder


def test_any_set_of_the_shape_is_read_and_split(data: Path) -> None:
    found = mnist.load()
    assert found.pixels.shape == (37, 28, 28)
    sizes = {name: len(rows) for name, rows in found.splits.items()}
    assert sizes == {"train": 22, "validation": 2, "test": 13}
    assert np.array_equal(np.concatenate(list(found.splits.values())), np.arange(37))
    assert mnist.counts() == {"train": 22, "validation": 2, "test": 13}
    test = np.frombuffer((data / "t10k-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
    assert np.array_equal(found.labels[found.splits["test"]], test)


def test_files_are_read_once_and_again_when_they_change(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> tuple[torch.Tensor, list[int]]:
        env = envs.make({"id": "antiphon/Mnist-v0"}, batch=2)
        return env._table.columns["image"], next(env.batches("test", 13))["label"].tolist()  # type: ignore[attr-defined]

    pixels, labels = shown()
    assert shown()[0] is pixels
    path = data / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:8] + bytes(13))
    assert labels != [0] * 13
    assert shown()[1] == [0] * 13
    other = write(data.parent / "other" / "mnist")
    monkeypatch.setenv("ANTIPHON_DATA", str(other.parent))
    assert shown()[1] == labels


def test_data_nowhere(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = message(mnist.load)
    assert "ANTIPHON_DATA is not set" in text
    assert "antiphon.envs.download('mnist')" in text
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    assert f"ANTIPHON_DATA is '{tmp_path}', which has no folder mnist" in message(mnist.load)


def test_a_missing_file(data: Path) -> None:
    (data / "train-labels-idx1-ubyte.gz").unlink()
    for call in (mnist.load, mnist.counts, lambda: envs.make({"id": "antiphon/Mnist-v0"}, batch=2)):
        assert message(call).startswith(
            f"{data / 'train-labels-idx1-ubyte'}[.gz]: no such file; copy it there"
        )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"t10k_images_idx3_ubyte": (13, 32, 32)}, "images are 32x32, not 28x28"),
        ({"t10k_labels_idx1_ubyte": (12,)}, "12 labels for 13 images in t10k-images-idx3-ubyte"),
    ],
)
def test_sets_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, tuple[int, ...]], expected: str
) -> None:
    monkeypatch.setenv("ANTIPHON_DATA", str(write(tmp_path / "mnist", **changed).parent))
    assert expected in message(mnist.load)


def test_labels_beyond_the_classes(data: Path) -> None:
    path = data / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    assert message(mnist.load).startswith(f"{path}: label 11, at most 9")


@pytest.fixture
def host(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a local server offers in place of the host, with the checksums of its files."""
    folder, address = served
    sums = {}
    for name, shape in FILES.items():
        packed = gzip.compress(content(shape))
        (folder / f"{name}.gz").write_bytes(packed)
        sums[name] = f"md5:{hashlib.md5(packed).hexdigest()}"
    monkeypatch.setattr(mnist, "_HOST", address)
    monkeypatch.setattr(mnist, "_CHECKSUMS", sums)
    return folder


def test_download_refuses_another_checksum_and_fills_the_cache_once(host: Path, cache: Path) -> None:
    assert envs.describe({"id": "antiphon/Mnist-v0"}).example_counts["train"] == 55_000, "as in the real set"
    sound = (host / "train-images-idx3-ubyte.gz").read_bytes()
    (host / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
    assert "train-images-idx3-ubyte.gz: download failed" in message(envs.download)
    assert not list(cache.rglob("train-images*"))
    (host / "train-images-idx3-ubyte.gz").write_bytes(sound)
    assert envs.download("mnist") == cache / "mnist"
    assert mnist.counts() == {"train": 22, "validation": 2, "test": 13}
    for path in host.iterdir():
        path.unlink()
    assert envs.download("mnist") == cache / "mnist"


def test_without_pooch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pooch":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert "pip install 'antiphon[data]'" in message(envs.download)
    assert "ANTIPHON_DATA is not set" in message(mnist.load)


@pytest.mark.data
def test_the_real_set() -> None:
    found = mnist.load()
    assert {name: len(rows) for name, rows in found.splits.items()} == mnist.counts()
    assert mnist.counts() == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert hashlib.md5(found.labels[:60_000].tobytes()).hexdigest() == "e86ee40d66677c011a9abda399ec8c4d"
    envs.check_vector_env(lambda: envs.make({"id": "antiphon/Mnist-v0", "hold": 2, "patches": 32}, batch=8))
