"""The list of data sets: any id shows any of them, and each is as it says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from antiphon import envs
from antiphon.envs.datasets import coloured_shapes, digits
from antiphon.envs.datasets.catalogue import DATA_SETS
from antiphon.errors import DataError
from tests.envs.made import message

EMBEDDED = ["digits", "shapes"]


def test_every_id_of_pictures_shows_every_data_set() -> None:
    for name in ("Digits", "Mnist", "Cifar10"):
        for data, found in DATA_SETS.items():
            signals = envs.describe({"id": f"antiphon/{name}-v0", "data": data, "patches": 2}).signals
            assert signals["image"].shape == (found.colours, found.side, found.side)
            assert signals["patch_1"].shape[-1] == found.patch_size


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_is_embedded_is_as_it_says(name: str) -> None:
    source = DATA_SETS[name]
    found = source.load()
    assert source.files() == ()
    assert {split: len(rows) for split, rows in found.splits.items()} == source.counts()
    assert found.pixels.reshape(len(found.labels), -1).shape[1] == source.colours * source.side**2
    assert int(found.pixels.max()) <= found.white


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
