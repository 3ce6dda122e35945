"""Positions of a picture's patches: a grid as near square as possible, in a fixed random order."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["grid", "pixel_indices", "positions"]


def grid(count: int) -> tuple[int, int]:
    """Return rows and columns with rows * columns = count and rows >= columns, as near square as possible."""
    columns = next(width for width in range(math.isqrt(count), 0, -1) if count % width == 0)
    return count // columns, columns


def positions(count: int, size: int, height: int, width: int) -> list[tuple[int, int]]:
    """Return the upper left corner (row, column) of each patch, in pixels.

    The corners are evenly spaced from edge to edge (a single column is centred), and patches overlap or leave
    gaps as necessary. Their order is a fixed permutation, so that consecutive patches are no neighbours.

    Args:
        count: Number of patches.
        size: Height and width of a patch.
        height: Height of the picture.
        width: Width of the picture.
    """
    rows, columns = grid(count)
    corners = [
        (top, left)
        for top in _evenly_spaced(rows, height - size)
        for left in _evenly_spaced(columns, width - size)
    ]
    # RandomState's numbers are frozen by numpy's compatibility policy.
    return [corners[place] for place in np.random.RandomState(0).permutation(count)]


def pixel_indices(
    corners: list[tuple[int, int]], size: int, height: int, width: int, colours: int = 1
) -> NDArray[np.int64]:
    """Return the indices of each patch's pixels in the flattened picture `[colours, height, width]`.

    Args:
        corners: Upper left corner (row, column) of each patch.
        size: Height and width of a patch.
        height: Height of the picture.
        width: Width of the picture.
        colours: Planes of the picture.

    Returns:
        int64 `[patches, colours * size * size]`.
    """
    inside = np.arange(size)[:, None] * width + np.arange(size)
    planes = np.arange(colours)[:, None] * (height * width) + inside.reshape(1, -1)
    starts = np.array([top * width + left for top, left in corners], dtype=np.int64)
    return starts[:, None] + planes.reshape(1, -1)


def _evenly_spaced(count: int, last: int) -> list[int]:
    if count == 1:
        return [last // 2]
    return [int(place) for place in np.linspace(0, last, count)]
