"""Data sets on disk or generated: where they are found, how they are read and downloaded. Nothing is unpickled.

Files are looked for in `$ANTIPHON_DATA/NAME`, then in the download cache.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import DataError, first_line, require, suggest
from antiphon.envs import shapes

DataName = Literal["digits", "mnist", "cifar10", "shapes"]
"""Name of a data set of images."""
DigitsName = Literal["digits", "mnist"]
"""Name of one whose images are single digits in grey."""
SPLITS = ("train", "validation", "test")

_EMBEDDED = Path(__file__).parent / "files"
_DIGITS = {"train": 1293, "validation": 144, "test": 360}
_MNIST_HOST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST = {
    "train-images-idx3-ubyte": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
"""The four files of MNIST, and the checksums of their gzipped downloads."""
_CIFAR10_HOST = "https://www.cs.toronto.edu/~kriz/"
_CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
_CIFAR10_CHECKSUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR10_FOLDER = "cifar-10-batches-bin"
_CIFAR10 = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
_CIFAR10_ROWS = 10_000
"""Images in each file of CIFAR-10."""
_CIFAR10_RECORD = 1 + 3 * 32 * 32
"""Bytes of an image of CIFAR-10: its label, then its red, green and blue planes, row by row."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    pixels: NDArray[np.uint8]
    """`[count, height, width]`, or for coloured images `[count, 3, height, width]`."""
    labels: NDArray[np.uint8]
    """`[count]`, classes numbered from 0."""
    splits: dict[str, NDArray[Any]]
    """Indices of each split; no image is in two splits."""
    white: int = 255
    """The pixel value that becomes 1.0."""


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
    """Return the number of images per split."""
    load: Callable[[], Pictures]


def download(name: str = "mnist") -> Path:
    """Download a data set, mnist or cifar10, into the user's cache, verify it, and return its folder; existing files are kept.

    Raises:
        DataError: There is no such data set to download, pooch is not installed, or the download failed.
    """
    known = ("cifar10", "mnist")
    require(name in known, "download", f"no data set '{name}' to download{suggest(name, known)}")
    folder = cache_folder(name)
    import pooch  # type: ignore[import-untyped]

    try:
        if name == "mnist":
            for file, checksum in _MNIST.items():
                pooch.retrieve(f"{_MNIST_HOST}{file}.gz", checksum, f"{file}.gz", folder)
        elif not all((folder / _CIFAR10_FOLDER / file).is_file() for file in _CIFAR10):
            members = pooch.Untar([f"{_CIFAR10_FOLDER}/{file}" for file in _CIFAR10], extract_dir=".")
            url = f"{_CIFAR10_HOST}{_CIFAR10_ARCHIVE}"
            pooch.retrieve(url, _CIFAR10_CHECKSUM, _CIFAR10_ARCHIVE, folder, processor=members)
            (folder / _CIFAR10_ARCHIVE).unlink()
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        fix = f"try again, or set ANTIPHON_DATA to a folder with {name}/"
        raise DataError(f"{name}: download failed ({first_line(error)}); {fix}") from error
    return folder


def cache_folder(name: str) -> Path:
    """Return the cache folder of a data set, whether it exists or not; DataError without pooch, which defines its path."""
    try:
        import pooch
    except ImportError as error:
        fix = f"pip install 'antiphon[data]', or set ANTIPHON_DATA to a folder with {name}/"
        raise DataError(f"downloading needs pooch: {fix}") from error
    return Path(pooch.os_cache("antiphon")) / name


def find_folder(name: str) -> Path | None:
    data = os.environ.get("ANTIPHON_DATA")
    folder = Path(data) / name if data else None
    if folder is None or not folder.is_dir():
        with suppress(DataError):
            folder = cache_folder(name)
    return folder if folder is not None and folder.is_dir() else None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise an error of a file that is missing or damaged as a DataError of one line."""
    try:
        yield
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)})") from error


def _in_order(counts: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Return the indices of consecutive splits of these sizes."""
    ends = np.cumsum(list(counts.values()))
    return dict(zip(counts, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))


def _located(name: str, files: str) -> Path:
    folder = find_folder(name)
    if folder is None:
        data = os.environ.get("ANTIPHON_DATA")
        reason = f"is '{data}', which has no folder {name}" if data else "is not set"
        fix = f"set it to a folder with {name}/{files}, or call antiphon.envs.download('{name}')"
        raise DataError(f"{name}: ANTIPHON_DATA {reason}; {fix}")
    return folder


def _idx(path: Path) -> NDArray[np.uint8]:
    """Return the bytes in an IDX file, the format of MNIST, gzipped if its name ends in `.gz`."""
    with reading(path):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        axes = content[3]
        shape = struct.unpack_from(f">{axes}I", content, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _digits() -> Pictures:
    """Read the embedded digits: sorted by class, every fifth image is for testing, every tenth of the rest for validation."""
    pixels = _idx(_EMBEDDED / "digits-images-idx3-ubyte.gz")
    labels = _idx(_EMBEDDED / "digits-labels-idx1-ubyte.gz")
    by_class = np.argsort(labels, kind="stable")
    index = np.arange(len(labels))
    rest = by_class[index % 5 != 0]
    index = np.arange(len(rest))
    splits = {"train": rest[index % 10 != 0], "validation": rest[index % 10 == 0], "test": by_class[::5]}
    return Pictures(
        pixels=pixels, labels=labels, splits={name: np.sort(rows) for name, rows in splits.items()}, white=16
    )


def _mnist_files() -> dict[str, Path]:
    folder, files = _located("mnist", f"{next(iter(_MNIST))}[.gz] and the other three files"), {}
    for name in _MNIST:
        paths = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        require(bool(paths), f"{folder / name}[.gz]", "no such file; copy it there, or change ANTIPHON_DATA")
        files[name] = paths[0]
    return files


def _mnist_counts() -> dict[str, int]:
    """Return MNIST's numbers, or those of another data set in its four files; a twelfth of the training images validates."""
    train, test = 60_000, 10_000
    if find_folder("mnist") is not None:
        files = _mnist_files()
        train, test = (len(_idx(files[f"{part}-labels-idx1-ubyte"])) for part in ("train", "t10k"))
    return {"train": train - train // 12, "validation": train // 12, "test": test}


def _mnist() -> Pictures:
    files = _mnist_files()
    pixels, labels = (
        np.concatenate([_idx(files[f"{part}-{kind}-ubyte"]) for part in ("train", "t10k")])
        for kind in ("images-idx3", "labels-idx1")
    )
    return Pictures(pixels=pixels, labels=labels, splits=_in_order(_mnist_counts()))


def _cifar10_counts() -> dict[str, int]:
    """Return the number of images per split; the last tenth of the training images validates."""
    train = (len(_CIFAR10) - 1) * _CIFAR10_ROWS
    return {"train": train - train // 10, "validation": train // 10, "test": _CIFAR10_ROWS}


def _cifar10_files() -> tuple[Path, ...]:
    folder = _located("cifar10", f"the six .bin files of {_CIFAR10_ARCHIVE}")
    for candidate in (folder, folder / _CIFAR10_FOLDER):
        if all((candidate / name).is_file() for name in _CIFAR10):
            return tuple(candidate / name for name in _CIFAR10)
    fix = f"extract {_CIFAR10_ARCHIVE} into it (the Python version, a pickle, is not read)"
    raise DataError(f"{folder}: needs all of {', '.join(_CIFAR10)}; {fix}")


def _cifar10() -> Pictures:
    records, labels = [], []
    for path in _cifar10_files():
        with reading(path):
            records.append(np.fromfile(path, np.uint8).reshape(_CIFAR10_ROWS, _CIFAR10_RECORD))
        labels.append(records[-1][:, 0].copy())
    pixels = np.concatenate(records)[:, 1:].reshape(-1, 3, 32, 32)
    return Pictures(pixels=pixels, labels=np.concatenate(labels), splits=_in_order(_cifar10_counts()))


def _shapes() -> Pictures:
    pixels, labels = shapes.pictures()
    return Pictures(pixels=pixels, labels=labels, splits=_in_order(shapes.COUNTS))


DATA_SETS: dict[DataName, DataSet] = {
    "digits": DataSet(8, 1, 3, _DIGITS.copy, _digits),
    "mnist": DataSet(28, 1, 8, _mnist_counts, _mnist),
    "cifar10": DataSet(32, 3, 8, _cifar10_counts, _cifar10),
    "shapes": DataSet(shapes.SIDE, 3, 8, shapes.COUNTS.copy, _shapes),
}
