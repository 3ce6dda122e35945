"""Registry of picture data sets: shapes, and functions to find, read and download them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from antiphon.envs.datasets import cifar10, cluttered, digits, mnist, shapes
from antiphon.envs.datasets.pictures import Pictures
from antiphon.errors import DataError, suggest

__all__ = ["DATA_SETS", "DataSet", "download"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A data set of pictures of ten classes; its shape is known without reading it."""

    side: int
    """Height and width of a picture, in pixels."""
    colours: int
    """Planes of a picture: 1 or 3."""
    patch_size: int
    """Default height and width of a patch, in pixels."""
    counts: Callable[[], dict[str, int]]
    """Return the number of pictures per split, reading no more than headers."""
    load: Callable[[], Pictures]
    """Read or make the pictures."""
    files: Callable[[], tuple[Path, ...]] = tuple
    """Return the files that `load` would read now; none for what ships with antiphon."""
    download: Callable[[], Path] | None = None
    """Fill the cache, and return its folder; None: there is nothing to download."""


DATA_SETS = {
    "digits": DataSet(side=digits.SIDE, colours=1, patch_size=3, counts=digits.COUNTS.copy, load=digits.load),
    "mnist": DataSet(
        side=mnist.SIDE,
        colours=1,
        patch_size=8,
        counts=mnist.counts,
        load=mnist.load,
        files=mnist.files,
        download=mnist.download,
    ),
    "cluttered_mnist": DataSet(
        side=cluttered.SIDE,
        colours=1,
        patch_size=8,
        counts=cluttered.counts,
        load=cluttered.load,
        files=cluttered.files,
    ),
    "cifar10": DataSet(
        side=cifar10.SIDE,
        colours=3,
        patch_size=8,
        counts=cifar10.counts,
        load=cifar10.load,
        files=cifar10.files,
        download=cifar10.download,
    ),
    "shapes": DataSet(side=shapes.SIDE, colours=3, patch_size=8, counts=shapes.COUNTS.copy, load=shapes.load),
}


def download(name: str = "mnist") -> Path:
    """Download a data set into the user's cache, verified; existing files are kept.

    Args:
        name: The data set: mnist or cifar10.

    Returns:
        The folder with the files.

    Raises:
        DataError: There is no such data set to download, pooch is not installed, or the download failed.
    """
    offered = {known: found.download for known, found in DATA_SETS.items() if found.download is not None}
    if name not in offered:
        raise DataError(f"no data set '{name}' to download{suggest(name, offered)}")
    return offered[name]()
