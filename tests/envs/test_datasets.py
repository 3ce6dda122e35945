"""The list of data sets: any id shows any of them, and each is as it says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from antiphon import envs
from antiphon.envs.datasets import coloured_shapes, digits
from antiphon.errors import DataError, ScenarioError
from tests.envs.made import message

SHAPES = {
    "cifar10": ((3, 32, 32), 8),
    "digits": ((1, 8, 8), 3),
    "mnist": ((1, 28, 28), 8),
    "shapes": ((3, 32, 32), 8),
}
"""Of the pictures of each data set, and the side of its patches."""
EMBEDDED = {"digits": digits, "shapes": coloured_shapes}


def test_every_id_of_pictures_shows_every_data_set() -> None:
    for name in ("Digits", "Mnist", "Cifar10"):
        for data, (shape, side) in SHAPES.items():
            signals = envs.describe({"id": f"antiphon/{name}-v0", "data": data, "patches": 2}).signals
            assert signals["image"].shape == shape
            assert signals["patch_1"].shape[-1] == side
        with pytest.raises(ScenarioError, match=f"known: {', '.join(SHAPES)}$"):
            envs.describe({"id": f"antiphon/{name}-v0", "data": "none"})


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_is_embedded_is_as_it_says(name: str, cache: Path) -> None:
    found = EMBEDDED[name].load()
    shown = envs.describe({"id": "antiphon/Digits-v0", "data": name})
    assert shown.example_counts == {split: len(rows) for split, rows in found.splits.items()}
    assert found.pixels.reshape(len(found.labels), *shown.signals["image"].shape).ndim == 4
    assert int(found.pixels.max()) <= found.white
    assert not cache.exists()  # it needs no files


@pytest.mark.parametrize(
    ("name", "ending"), [("mnits", "did you mean 'mnist'?"), ("shapes", "known: cifar10, mnist")]
)
def test_download_of_what_is_not_offered(name: str, ending: str) -> None:
    assert message(lambda: envs.download(name)) == f"no data set '{name}' to download; {ending}"


def test_the_cache_is_left_alone_by_looking(cache: Path) -> None:
    with pytest.raises(DataError):
        envs.make({"id": "antiphon/Cifar10-v0"}, batch=1)
    assert not cache.exists()


# --- the embedded ones ---------------------------------------------------------------------------------------


def test_digits_are_complete() -> None:
    found = digits.load()
    assert found.pixels.shape == (1797, 8, 8)
    assert found.pixels.max() == found.white == 16
    assert np.bincount(found.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert int(found.pixels.astype(int).sum()) == 561718


def test_splits_of_the_digits_never_mix_and_share_out_every_class() -> None:
    found = digits.load()
    assert {name: len(rows) for name, rows in found.splits.items()} == digits.COUNTS
    every = np.concatenate(list(found.splits.values()))
    assert np.array_equal(np.sort(every), np.arange(1797))
    for name, per_class in (("test", 35), ("validation", 13)):
        assert np.bincount(found.labels[found.splits[name]]).min() >= per_class


def test_the_shapes_are_the_same_on_every_machine() -> None:
    found = coloured_shapes.load()
    assert found.pixels.shape == (3000, 3, 32, 32)
    assert found.pixels.dtype == np.uint8
    assert hashlib.md5(found.pixels.tobytes()).hexdigest() == "b5fc96c6c5c379a235ead1d96c6e98c9"
