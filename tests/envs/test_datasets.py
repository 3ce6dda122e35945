"""Data sets and texts: found, read, split, downloaded, and refused in one line where a file is damaged."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded

from antiphon import envs
from antiphon.base.errors import DataError, ScenarioError
from antiphon.envs import datasets
from antiphon.envs import text as texts
from antiphon.envs.datasets import DATA_SETS
from tests.envs.contract import check_vector_env
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


def test_any_set_in_mnists_files_is_read_once_and_split(data: Path) -> None:
    write_mnist(data / "mnist")
    found = DATA_SETS["mnist"].load()
    assert found.pixels.shape == (37, 28, 28)
    assert {name: len(rows) for name, rows in found.splits.items()} == DATA_SETS["mnist"].counts()
    assert DATA_SETS["mnist"].counts() == {"train": 22, "validation": 2, "test": 13}

    def shown() -> tuple[torch.Tensor, list[int]]:
        env = envs.make({"id": "antiphon/Digits-v0", "data": "mnist"}, batch=2)
        return env._table.columns["image"], next(env.batches("test", 13))["label"].tolist()  # type: ignore[attr-defined]

    pixels, labels = shown()
    assert labels == found.labels[found.splits["test"]].tolist()
    assert shown()[0] is pixels


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
    assert envs.describe({"id": "antiphon/Digits-v0", "data": "mnist"}).example_counts["train"] == 55_000
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


# --- texts -----------------------------------------------------------------------------------------------


CHARACTERS, WINDOWS = "antiphon/CharText-v0", "antiphon/TextWindows-v0"
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that texts are read from, with one of 180 known characters, and ten for each other split, a few of them unknown."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "letters.txt").write_text((ALPHABET * 7)[:180] + "abcdeABCDE" + "fghij?????")
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    return tmp_path / "text"


@pytest.fixture
def counting(tmp_path: Path) -> str:
    """A text of 200 different characters: the class of a training character is its place."""
    path = tmp_path / "counting.txt"
    path.write_text("".join(chr(256 + k) for k in (*range(180), *range(20))), "utf-8")
    return str(path)


def test_the_embedded_text() -> None:
    text = texts.load(texts.EMBEDDED)
    train, validation = (len(text.splits[name]) for name in ("train", "validation"))
    length = sum(map(len, text.splits.values()))
    assert 60_000 < length < 100_000
    raw = gzip.decompress(texts._EMBEDDED_FILE.read_bytes()).decode()
    assert raw.startswith("CHAPTER 1. Loomings.")
    known = sorted(set(raw[:train]))
    assert "".join(known[code] for code in text.splits["train"]) == raw[:train]
    assert text.classes == len(known) + 1
    assert (train, train + validation) == (length * 90 // 100, length * 95 // 100)
    assert texts.load(texts.EMBEDDED) is text


def test_a_text_written_out(shelf: Path) -> None:
    (shelf / "abc.txt").write_text("cabé" * 9 + "aé" + "zb", encoding="utf-8")
    text = texts.load("abc")
    assert text.classes == 5
    assert text.splits["train"].tolist() == [2, 0, 1, 3] * 9
    assert text.splits["validation"].tolist() == [0, 3]
    assert text.splits["test"].tolist() == [4, 1]  # z is unknown
    assert texts.load(str(shelf / "abc.txt")) is text


def read(env: envs.TorchVectorEnv, steps: int) -> tuple[list[list[int]], list[list[int]]]:
    """Classes of the characters shown from seed 0 on, and of those that were to come next, by step and lane."""
    obs, info = env.reset(seed=0)
    shown, following = [obs["char"].argmax(1).tolist()], [info["next"].tolist()]
    for _ in range(steps - 1):
        obs, *_, info = env.step(None)
        shown.append(obs["char"].argmax(1).tolist())
        following.append(info["next"].tolist())
    return shown, following


def test_two_lanes_read_their_stretches_of_a_split(shelf: Path) -> None:
    env = envs.make({"id": CHARACTERS, "text": "letters"}, batch=2, split="validation")
    a, unknown = 0, 26
    shown, following = read(env, 6)
    first, second = zip(*shown, strict=True)
    assert first == (a, 1, 2, 3, 4, unknown)  # "abcde", then on into the next stretch
    assert second == (unknown,) * 5 + (a,)  # "ABCDE", then round to the beginning
    assert [row[0] for row in following[:5]] == [1, 2, 3, 4, unknown]
    assert [row[1] for row in following[3:]] == [unknown, a, 1]
    assert env.evaluation_steps == 4
    line = "the validation split of 'letters' has 10 characters, but 6 environments need 12; lower training"
    with pytest.raises(ScenarioError, match=line):
        envs.make({"id": CHARACTERS, "text": "letters"}, batch=6, split="validation")
    with pytest.raises(ResetNeeded):
        envs.make({"id": CHARACTERS}, batch=2).step(None)


@pytest.mark.parametrize("lanes", [1, 4, 7])
def test_one_pass_asks_for_every_character_of_every_stretch_but_its_first(lanes: int, counting: str) -> None:
    env = envs.make({"id": CHARACTERS, "text": counting}, batch=lanes)
    stretch = 180 // lanes
    assert env.evaluation_steps == stretch - 1
    shown, following = read(env, stretch - 1)
    assert following[:-1] == shown[1:]
    asked = [code for row in following for code in row]
    assert len(set(asked)) == len(asked) == lanes * (stretch - 1)
    assert not set(asked) & set(shown[0])


def test_a_seed_draws_where_training_begins_and_nothing_else(shelf: Path) -> None:
    def first(seed: int, split: str = "train") -> torch.Tensor:
        env = envs.make({"id": CHARACTERS, "text": "letters"}, batch=1, split=split)
        return env.reset(seed=seed)[0]["char"]

    assert len({int(first(seed).argmax()) for seed in range(20)}) > 8
    assert torch.equal(first(0, "test"), first(1, "test"))


def test_every_token_of_a_window_is_followed_by_the_next_one(counting: str) -> None:
    env = envs.make({"id": WINDOWS, "text": counting, "length": 7}, batch=200)
    begins = set()
    obs, info = env.reset(seed=0)
    for _ in range(20):
        tokens = obs["tokens"]
        assert torch.equal(tokens, tokens[:, :1] + torch.arange(7))
        assert torch.equal(info["following"], tokens + 1)
        begins |= set(tokens[:, 0].tolist())
        obs, *_, info = env.step(None)
    assert begins == set(range(180 - 7))  # anywhere, with all that follows in the split


@pytest.mark.parametrize(("length", "windows"), [(3, 3), (4, 2), (9, 1), (1, 9)])
def test_windows_of_a_split_ask_for_each_character_once(counting: str, length: int, windows: int) -> None:
    env = envs.make({"id": WINDOWS, "text": counting, "length": length}, batch=3)
    assert env.description.example_counts == {"train": 180 - length, "validation": windows, "test": windows}
    for split, first in (("validation", 0), ("test", 10)):
        shown = [batch["following"] for batch in env.batches(split, 2)]
        assert torch.cat(shown).flatten().tolist() == [first + 1 + k for k in range(windows * length)]
    with pytest.raises(DataError, match=r"env.length: 10, but the validation split of .* has 10"):
        envs.describe({"id": WINDOWS, "text": counting, "length": 10})


@pytest.mark.data
def test_the_real_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if not os.environ.get("ANTIPHON_DATA"):
        pytest.skip("ANTIPHON_DATA names no folder")
    found = DATA_SETS["mnist"].load()
    assert DATA_SETS["mnist"].counts() == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert hashlib.md5(found.labels[:60_000].tobytes()).hexdigest() == "e86ee40d66677c011a9abda399ec8c4d"
    check_vector_env(
        lambda: envs.make({"id": "antiphon/Digits-v0", "data": "mnist", "hold": 2, "patches": 32}, batch=8)
    )
