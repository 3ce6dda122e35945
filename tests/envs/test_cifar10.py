"""CIFAR-10: where it is found, what is refused, and the download."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


def pack(path: Path, members: dict[str, bytes]) -> Path:
    """Write an archive of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as packed:
        for name, member in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(member)
            packed.addfile(info, io.BytesIO(member))
    return path


def whole() -> dict[str, bytes]:
    """Return the members of a sound archive, the last file first, with the two that are not read."""
    return {
        f"{INSIDE}/readme.html": b"<html>",
        **{f"{INSIDE}/{name}": CONTENTS[name] for name in reversed(NAMES)},
        f"{INSIDE}/batches.meta.txt": b"airplane",
    }


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


def test_the_stream_shows_the_set(home: Path) -> None:
    plain(home)
    env = envs.make({**CIFAR, "patches": 6, "hold": 2}, batch=5)
    obs, _ = env.reset(seed=0)
    assert obs["image"].shape == (5, 3, 32, 32)
    assert obs["patch_5"].shape == (5, 3, 8, 8)
    first = np.frombuffer(CONTENTS[NAMES[0]], np.uint8).reshape(-1, 3073)[0]
    batch = next(env.batches("train", 7))
    assert torch.equal(batch["image"][0].flatten(), torch.from_numpy(first[1:].copy()).float() / 255)
    assert int(batch["label"][0]) == first[0]
    envs.check_vector_env(lambda: envs.make({**CIFAR, "patches": 4, "hold": 2}, batch=4))


def test_describing_reads_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "_ROWS", 10_000)
    monkeypatch.setattr(cifar10, "find_folder", lambda name: pytest.fail("looked for files"))
    description = envs.describe(CIFAR)
    assert description.example_counts == {"train": 45_000, "validation": 5_000, "test": 10_000}
    assert description.signals["image"].shape == (3, 32, 32)
    assert description.signals["right_half"].shape == (3, 32, 16)


def test_data_nowhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = message(lambda: envs.make(CIFAR, batch=2))
    assert f"CIFAR-10: ANTIPHON_DATA is '{home.parent}', which has no folder cifar10" in text
    assert "the six .bin files of cifar-10-binary.tar.gz" in text
    monkeypatch.delenv("ANTIPHON_DATA")
    text = message(cifar10.load)
    assert "ANTIPHON_DATA is not set" in text
    assert "antiphon.envs.download('cifar10')" in text


def test_a_folder_with_the_python_version_alone(home: Path) -> None:
    home.mkdir()
    (home / "cifar-10-python.tar.gz").write_bytes(b"a pickle")
    text = message(cifar10.load)
    assert text.startswith(f"{home}: has not all of data_batch_1.bin,")
    assert text.endswith("extract cifar-10-binary.tar.gz there (the python version, a pickle, is not read)")


def test_a_missing_file(home: Path) -> None:
    plain(home / INSIDE)
    (home / INSIDE / NAMES[3]).unlink()
    assert message(cifar10.load).startswith(f"{home}: has not all of data_batch_1.bin,")


@pytest.mark.parametrize("size", [0, ROWS * 3073 - 1, (ROWS - 1) * 3073, ROWS * 3074])
def test_a_file_of_another_size(home: Path, size: int) -> None:
    path = plain(home) / NAMES[4]
    path.write_bytes(bytes(size))
    assert message(cifar10.load) == f"{path}: {size:,} bytes, not 61,460; replace it by a sound copy"


def test_labels_beyond_the_classes(home: Path) -> None:
    path = plain(home) / NAMES[5]
    path.write_bytes(b"\x0b" + CONTENTS[NAMES[5]][1:])
    assert message(cifar10.load).startswith(f"{path}: label 11, the largest may be 9;")


def test_a_file_that_cannot_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain(home) / NAMES[0]

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert message(cifar10.load).startswith(f"{path}: cannot be read (Permission denied)")


@pytest.fixture
def host(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive that a local server offers in place of the authors' site."""
    folder, address = served
    path = pack(folder / "cifar-10-binary.tar.gz", {"../evil.bin": b"evil", **whole()})
    monkeypatch.setattr(cifar10, "_HOST", address)
    monkeypatch.setattr(cifar10, "_CHECKSUM", f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}")
    return path


def test_download_fills_the_cache_once(host: Path, cache: Path) -> None:
    assert envs.download("cifar10") == cache / "cifar10"
    assert sorted(path.name for path in cache.rglob("*.*")) == sorted(NAMES)
    check_contents(cifar10.load())
    host.unlink()
    assert envs.download("cifar10") == cache / "cifar10"


def test_download_mends_a_file_of_another_size(host: Path, cache: Path) -> None:
    envs.download("cifar10")
    (cache / "cifar10" / INSIDE / NAMES[2]).write_bytes(b"half")
    envs.download("cifar10")
    check_contents(cifar10.load())


def test_download_refuses_what_has_another_checksum(host: Path, cache: Path) -> None:
    host.write_bytes(b"something else")
    assert "cifar-10-binary.tar.gz: download failed" in message(lambda: envs.download("cifar10"))
    assert not list(cache.rglob("*.bin"))


def test_the_checksum_is_that_of_the_binary_version() -> None:
    assert cifar10._HOST == "https://www.cs.toronto.edu/~kriz/"
    assert cifar10._CHECKSUM == "md5:c32a1d4ab5d03f1284b67883e8d87530"
