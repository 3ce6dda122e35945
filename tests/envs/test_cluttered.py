"""Cluttered MNIST: the digits of MNIST, whole, among pieces of others; the same pictures in every process."""

from pathlib import Path

import numpy as np
import pytest

from antiphon.envs.datasets import cluttered, mnist
from tests.envs.test_mnist import write


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder named by ANTIPHON_DATA, with a small MNIST in it."""
    write(tmp_path / "data" / "mnist")
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path / "data"))


def _stamped(monkeypatch: pytest.MonkeyPatch, value: int) -> None:
    """Replace MNIST by pictures of two levels, brighter in the test split than `value`."""
    found = mnist.load()
    found.pixels[:] = value
    found.pixels[found.splits["test"]] = value + 1
    monkeypatch.setattr(cluttered.mnist, "load", lambda: found)


def test_each_digit_stands_whole_somewhere_on_its_canvas(data: None) -> None:
    plain, found = mnist.load(), cluttered.load()
    assert found.pixels.shape == (37, cluttered.SIDE, cluttered.SIDE)
    assert np.array_equal(found.labels, plain.labels)
    places = range(cluttered.SIDE - mnist.SIDE + 1)
    for picture, digit in zip(found.pixels, plain.pixels, strict=True):
        windows = [picture[y : y + 28, x : x + 28] for y in places for x in places]
        assert any((window >= digit).all() and (window == digit).mean() > 0.5 for window in windows)


def test_pictures_have_pieces_of_their_own_split_alone(data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _stamped(monkeypatch, 100)
    found = cluttered.load()
    for split, rows in found.splits.items():
        level = 101 if split == "test" else 100
        assert set(np.unique(found.pixels[rows])) == {0, level}
    digit, canvas = mnist.SIDE**2, cluttered.SIDE**2
    covered = (found.pixels > 0).reshape(37, -1).sum(1)
    assert covered.min() >= digit
    assert covered.mean() > digit + 1  # pieces that reach out of the digit
    assert covered.max() <= min(canvas, digit + cluttered.PIECES * cluttered.PIECE**2)
