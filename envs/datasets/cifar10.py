"""CIFAR-10 (Krizhevsky 2009) in its binary version: read from a folder, or downloaded on request.

The Python version on the authors' site is a pickle, and is never read. Files that are missing, damaged or of the wrong size
raise a DataError.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import DataError, require
from antiphon.envs.datasets.dataset_files import Pictures, cache_folder, fetch, find_folder, in_order, nowhere

SIDE = 32
"""Height and width of an image, in pixels."""
CLASSES = 10

_HOST = "https://www.cs.toronto.edu/~kriz/"
_ARCHIVE = "cifar-10-binary.tar.gz"
_CHECKSUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"
_INSIDE = "cifar-10-batches-bin"
"""The archive's only folder."""
_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
_ROWS = 10_000
"""Images in each file."""
_RECORD = 1 + 3 * SIDE * SIDE
"""Bytes of an image: its label, then its red, green and blue planes, row by row."""
_MEND = "replace it by an undamaged copy"


def load() -> Pictures:
    """Read the images; the last tenth of the training images (5,000) is for validation."""
    records = np.concatenate([_records(path) for path in files()])
    labels = records[:, 0].copy()
    pixels = records[:, 1:].reshape(-1, 3, SIDE, SIDE)
    return Pictures(pixels=pixels, labels=labels, splits=in_order(counts()), white=255)


def counts() -> dict[str, int]:
    """Return the number of images per split, in the order of the files."""
    train = (len(_FILES) - 1) * _ROWS
    return {"train": train - train // 10, "validation": train // 10, "test": _ROWS}


def files() -> tuple[Path, ...]:
    """Return the paths of the six files in the order of their images."""
    folder = find_folder("cifar10")
    if folder is None:
        raise nowhere("CIFAR-10", "cifar10", f"the six .bin files of {_ARCHIVE}")
    for candidate in (folder, folder / _INSIDE):
        if all(path.is_file() for path in _paths(candidate)):
            return tuple(_paths(candidate))
    fix = f"extract {_ARCHIVE} into it (the Python version, a pickle, is not read)"
    raise DataError(f"{folder}: needs all of {', '.join(_FILES)}; {fix}")


def download() -> Path:
    """Download the archive into the user's cache, check it, and extract the six files: see `catalogue.download`."""
    folder = cache_folder("cifar10")
    if all(path.is_file() and path.stat().st_size == _ROWS * _RECORD for path in _paths(folder / _INSIDE)):
        return folder
    fetch("cifar10", f"{_HOST}{_ARCHIVE}", _CHECKSUM, members=[f"{_INSIDE}/{name}" for name in _FILES])
    (folder / _ARCHIVE).unlink(missing_ok=True)
    return folder


def _paths(folder: Path) -> list[Path]:
    return [folder / name for name in _FILES]


def _records(path: Path) -> NDArray[np.uint8]:
    """Return uint8 `[pictures, 1 + pixels]`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {_MEND}") from error
    size = f"{len(content):,} bytes, not {_ROWS * _RECORD:,}"
    require(len(content) == _ROWS * _RECORD, path, f"{size}; {_MEND}")
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    top = int(records[:, 0].max())
    require(top < CLASSES, path, f"label {top}, at most {CLASSES - 1}; {_MEND}")
    return records
