"""Cluttered MNIST: a digit at a random place on a larger canvas, among pieces of other digits; generated from MNIST.

Mnih et al. 2014, "Recurrent models of visual attention", section 4.1; here on 40x40 pixels instead of 60x60.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from antiphon.envs.datasets import mnist
from antiphon.envs.datasets.dataset_files import Pictures

SIDE = 40
"""Height and width of an image, in pixels."""
PIECES = 8
"""Pieces of other digits in an image."""
PIECE = 8
"""Height and width of a piece, in pixels."""


def load() -> Pictures:
    """Read MNIST, and place each digit and pieces of others of its split at random; the result is the same in every process."""
    digits = mnist.load()
    pixels = np.zeros((len(digits.labels), SIDE, SIDE), dtype=np.uint8)
    # RandomState's numbers are frozen by numpy's compatibility policy.
    random = np.random.RandomState(0)
    for rows in digits.splits.values():
        for _ in range(PIECES):
            pieces = digits.pixels[rows[random.randint(len(rows), size=len(rows))]]
            _put(pixels, rows, _cut(pieces, PIECE, random), random)
        _put(pixels, rows, digits.pixels[rows], random)
    return Pictures(pixels=pixels, labels=digits.labels, splits=digits.splits, white=digits.white)


counts, files = mnist.counts, mnist.files


def _squares(
    count: int, side: int, size: int, random: np.random.RandomState
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows `[count, size, 1]` and columns `[count, 1, size]` of squares at random places of pictures of a side."""
    corners, run = random.randint(side - size + 1, size=(count, 2)).astype(np.int64), np.arange(size)
    return corners[:, :1, None] + run[None, :, None], corners[:, 1:, None] + run[None, None, :]


def _cut(pictures: NDArray[np.uint8], size: int, random: np.random.RandomState) -> NDArray[np.uint8]:
    """Return a random square of each picture."""
    top, left = _squares(len(pictures), pictures.shape[1], size, random)
    squares: NDArray[np.uint8] = pictures[np.arange(len(pictures))[:, None, None], top, left]
    return squares


def _put(
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    squares: NDArray[np.uint8],
    random: np.random.RandomState,
) -> None:
    """Add a square to each canvas at a random place, in place: the brighter of both."""
    size = squares.shape[1]
    top, left = _squares(len(rows), SIDE, size, random)
    where = (rows[:, None, None], top, left)
    pixels[where] = np.maximum(pixels[where], squares)
