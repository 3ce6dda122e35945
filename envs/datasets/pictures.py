"""Labelled pictures as arrays, returned by the readers of data sets. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pictures", "in_order"]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures with their classes and splits."""

    pixels: NDArray[np.uint8]
    """`[count, height, width]`, or of coloured ones `[count, 3, height, width]`."""
    labels: NDArray[np.uint8]
    """`[count]`, classes numbered from 0."""
    splits: dict[str, NDArray[Any]]
    """Indices of each split; no picture is in two."""
    white: int
    """The pixel value that becomes 1.0."""


def in_order(counts: dict[str, int]) -> dict[str, NDArray[np.int64]]:
    """Return the indices of splits of some sizes, one after the other."""
    ends = np.cumsum(list(counts.values()))
    return dict(zip(counts, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
