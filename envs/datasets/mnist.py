"""The MNIST database, or another one with the same four files: read from a folder, or downloaded on request.

A file that is missing, damaged or does not have MNIST's shape raises a DataError.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from antiphon.base.errors import require
from antiphon.envs.datasets import idx
from antiphon.envs.datasets.dataset_files import Pictures, cache_folder, fetch, find_folder, in_order, nowhere

SIDE = 28
"""Height and width of an image, in pixels."""
CLASSES = 10

_HOST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_CHECKSUMS = {
    "train-images-idx3-ubyte": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
"""The four files, and the checksums of their gzipped downloads."""
_MEND = "replace it by an undamaged copy"


def load() -> Pictures:
    """Read the images; the last twelfth of the training file (5,000 for MNIST) is for validation."""
    files = _locate()
    (pixels, labels), (test_pixels, test_labels) = (_part(files, prefix) for prefix in ("train", "t10k"))
    return Pictures(
        pixels=np.concatenate([pixels, test_pixels]),
        labels=np.concatenate([labels, test_labels]),
        splits=in_order(_counts(len(labels), len(test_labels))),
        white=255,
    )


def counts() -> dict[str, int]:
    """Return the number of images per split, from the files' headers; MNIST's numbers if no file is found."""
    train, test = 60_000, 10_000
    if find_folder("mnist") is not None:
        files = _locate()
        train = idx.read_shape(files["train-labels-idx1-ubyte"], 1, _MEND)[0]
        test = idx.read_shape(files["t10k-labels-idx1-ubyte"], 1, _MEND)[0]
    return _counts(train, test)


def download() -> Path:
    """Download the four files into the user's cache and verify them: see `catalogue.download`."""
    for file, checksum in _CHECKSUMS.items():
        fetch("mnist", f"{_HOST}{file}.gz", checksum)
    return cache_folder("mnist")


def files() -> tuple[Path, ...]:
    return tuple(_locate().values())


def _counts(train: int, test: int) -> dict[str, int]:
    return {"train": train - train // 12, "validation": train // 12, "test": test}


def _locate() -> dict[str, Path]:
    folder = find_folder("mnist")
    if folder is None:
        raise nowhere("MNIST", "mnist", "mnist/train-images-idx3-ubyte[.gz] and the other three files")
    paths_by_name = {}
    for name in _CHECKSUMS:
        paths = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        nothing = "no such file; copy it there, or change ANTIPHON_DATA"
        require(bool(paths), f"{folder / name}[.gz]", nothing)
        paths_by_name[name] = paths[0]
    return paths_by_name


def _part(files: dict[str, Path], prefix: str) -> tuple[Any, Any]:
    """Read and compare the pictures and labels of one part, train or t10k."""
    images, labels = files[f"{prefix}-images-idx3-ubyte"], files[f"{prefix}-labels-idx1-ubyte"]
    pixels, classes = idx.read(images, 3, _MEND), idx.read(labels, 1, _MEND)
    height, width = pixels.shape[1:]
    require(height == width == SIDE, images, f"images are {height}x{width}, not {SIDE}x{SIDE}; {_MEND}")
    counts = f"{len(classes)} labels for {len(pixels)} images in {images.name}"
    require(len(pixels) == len(classes), labels, f"{counts}; {_MEND}")
    require(len(pixels) >= 12, images, f"{len(pixels)} images, too few to split (at least 12); {_MEND}")
    top = classes.max()
    require(top < CLASSES, labels, f"label {top}, at most {CLASSES - 1}; {_MEND}")
    return pixels, classes
