"""The embedded digits and their splits."""

import numpy as np

from antiphon.envs.datasets import digits


def test_digits_are_complete() -> None:
    found = digits.load()
    assert found.pixels.shape == (1797, 8, 8)
    assert found.pixels.max() == found.white == 16
    assert np.bincount(found.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert int(found.pixels.astype(int).sum()) == 561718


def test_splits_never_mix_and_share_out_every_class() -> None:
    found = digits.load()
    assert {name: len(rows) for name, rows in found.splits.items()} == digits.COUNTS
    every = np.concatenate(list(found.splits.values()))
    assert np.array_equal(np.sort(every), np.arange(1797))
    for name, per_class in (("test", 35), ("validation", 13)):
        assert np.bincount(found.labels[found.splits[name]]).min() >= per_class
