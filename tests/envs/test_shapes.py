"""The stand-in for CIFAR-10: the same everywhere, balanced, and what its colours and forms give away."""

import hashlib

import numpy as np

from antiphon.envs.datasets import shapes


def test_the_pictures_are_the_same_on_every_machine() -> None:
    found = shapes.load()
    assert found.pixels.shape == (3000, 3, 32, 32)
    assert found.pixels.dtype == np.uint8
    assert hashlib.md5(found.pixels.tobytes()).hexdigest() == "b5fc96c6c5c379a235ead1d96c6e98c9"


def test_splits_never_mix_and_share_out_every_class() -> None:
    found = shapes.load()
    assert {name: len(rows) for name, rows in found.splits.items()} == shapes.COUNTS
    assert np.array_equal(np.concatenate(list(found.splits.values())), np.arange(3000))
    for name, rows in found.splits.items():
        assert np.bincount(found.labels[rows]).tolist() == [shapes.COUNTS[name] // 10] * 10


def test_neighbouring_classes_share_a_hue() -> None:
    found = shapes.load()
    middle = found.pixels[:, :, 8:24, 8:24].astype(float).mean(axis=(2, 3))
    tint = middle - middle.mean(axis=1, keepdims=True)
    means = np.stack([tint[found.labels == label].mean(axis=0) for label in range(10)])
    cosines = means @ means.T / np.outer(*2 * [np.linalg.norm(means, axis=1)])
    np.fill_diagonal(cosines, -1)
    assert cosines.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
