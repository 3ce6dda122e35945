"""Registry of image data sets: shapes, and functions to find, read and download them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from antiphon.base.errors import DataError
from antiphon.base.nearest_names import suggest
from antiphon.envs.datasets import cifar10, coloured_shapes, digits, mnist
from antiphon.envs.datasets.dataset_files import Pictures

DataName = Literal["digits", "mnist", "cifar10", "shapes"]
"""Name of an image data set."""
DigitsName = Literal["digits", "mnist"]
"""Name of one whose images are single digits in grey."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set of images of ten classes; its shape is known without reading it."""

    side: int
    """Height and width of an image, in pixels."""
    colours: int
    """Colour planes of an image: 1 or 3."""
    patch_size: int
    """Default height and width of a patch, in pixels."""
    counts: Callable[[], dict[str, int]]
    """Return the number of images per split, reading only headers."""
    load: Callable[[], Pictures]
    files: Callable[[], tuple[Path, ...]] = tuple
    """Return the files that `load` would read now; none for data that ship with antiphon."""
    download: Callable[[], Path] | None = None
    """Download into the cache, and return its folder; None: there is nothing to download."""


def _of(module: Any, colours: int = 1, patch_size: int = 8) -> DataSet:
    files, download = getattr(module, "files", tuple), getattr(module, "download", None)
    return DataSet(module.SIDE, colours, patch_size, module.counts, module.load, files, download)


DATA_SETS: dict[DataName, DataSet] = {
    "digits": _of(digits, patch_size=3),
    "mnist": _of(mnist),
    "cifar10": _of(cifar10, colours=3),
    "shapes": _of(coloured_shapes, colours=3),
}


def download(name: str = "mnist") -> Path:
    """Download a data set, mnist or cifar10, into the user's cache, verify it, and return its folder; existing files are kept.

    Raises:
        DataError: There is no such data set to download, pooch is not installed, or the download failed.
    """
    offered = {key: data_set.download for key, data_set in DATA_SETS.items() if data_set.download is not None}
    if name not in offered:
        raise DataError(f"no data set '{name}' to download{suggest(name, offered)}")
    return offered[name]()
