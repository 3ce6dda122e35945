"""CIFAR-10 (Krizhevsky 2009) in its binary version: read from a folder, or downloaded on request.

The python version of the authors' site is a pickle, and is never read. Files that are missing, broken or of another size
raise a DataError.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiphon.envs.datasets.folders import cache_folder, fetch, find_folder, nowhere
from antiphon.envs.datasets.pictures import Pictures
from antiphon.errors import DataError

__all__ = ["CLASSES", "SIDE", "counts", "download", "files", "load"]

SIDE = 32
"""Height and width of a picture, in pixels."""
CLASSES = 10

_HOST = "https://www.cs.toronto.edu/~kriz/"
_ARCHIVE = "cifar-10-binary.tar.gz"
_CHECKSUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"
_INSIDE = "cifar-10-batches-bin"
"""The archive's only folder."""
_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
_ROWS = 10_000
"""Pictures in each file."""
_RECORD = 1 + 3 * SIDE * SIDE
"""Bytes of a picture: its label, then its red, green and blue planes, row by row."""
_MEND = "replace it by a sound copy"
_FETCH = "copy them there, or unset ANTIPHON_DATA and call antiphon.envs.download('cifar10')"


def load() -> Pictures:
    """Read the pictures; the last tenth of those for training (5,000) is for validation."""
    found = files()
    pixels = np.empty((len(_FILES) * _ROWS, 3, SIDE, SIDE), np.uint8)
    labels = np.empty(len(_FILES) * _ROWS, np.uint8)
    contents = _packed(found[0]) if len(found) == 1 else _plain(found)
    for name, place, content in contents:
        first = _FILES.index(name) * _ROWS
        rows = slice(first, first + _ROWS)
        records = _records(content, place)
        labels[rows] = records[:, 0]
        pixels[rows] = records[:, 1:].reshape(-1, 3, SIDE, SIDE)
    ends = np.cumsum(list(counts().values()))[:-1]
    splits = dict(zip(counts(), np.split(np.arange(len(labels)), ends), strict=True))
    return Pictures(pixels=pixels, labels=labels, splits=splits, white=255)


def counts() -> dict[str, int]:
    """Return the number of pictures per split, in the order of the files."""
    train = (len(_FILES) - 1) * _ROWS
    return {"train": train - train // 10, "validation": train // 10, "test": _ROWS}


def files() -> tuple[Path, ...]:
    """Return the paths of the six files in the order of their pictures, or that of the archive."""
    folder = find_folder("cifar10")
    fault = f"neither {_ARCHIVE} nor its six .bin files (the python version, a pickle, is not read)"
    if folder is None:
        raise nowhere("CIFAR-10", "cifar10", f"cifar10/{_ARCHIVE} or its six .bin files")
    for place in (folder, folder / _INSIDE):
        there = [place / name for name in _FILES if (place / name).is_file()]
        if len(there) == len(_FILES):
            return tuple(there)
        if there:
            fault = f"{len(there)} of the six .bin files are in {place.name}/, and no {_ARCHIVE}"
    if (folder / _ARCHIVE).is_file():
        return (folder / _ARCHIVE,)
    raise DataError(f"{folder}: {fault}; {_FETCH}")


def download() -> Path:
    """Download the archive into the user's cache, check it, and extract the six files.

    Files that are there already are kept.

    Returns:
        The folder with the files.

    Raises:
        DataError: pooch is not installed, the download failed, or the cache cannot be written.
    """
    folder = cache_folder("cifar10")
    paths = [folder / name for name in _FILES]
    if all(path.is_file() and path.stat().st_size == _ROWS * _RECORD for path in paths):
        return folder
    archive = fetch("cifar10", f"{_HOST}{_ARCHIVE}", _CHECKSUM)
    try:
        for name, _, content in _packed(archive):
            partial = folder / f"{name}.part"
            partial.write_bytes(content)
            os.replace(partial, folder / name)
        archive.unlink()
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); make room, or set ANTIPHON_DATA"
        ) from error
    return folder


def _plain(paths: tuple[Path, ...]) -> Iterator[tuple[str, str, bytes]]:
    """Yield name, place and content of each of the six files."""
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}); {_MEND}") from error
        yield path.name, str(path), content


def _packed(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield name, place and content of each of the six files in an archive; other members are ignored."""
    wanted = {f"{_INSIDE}/{name}": name for name in _FILES}
    try:
        with tarfile.open(archive, "r|gz") as packed:
            for member in packed:
                if (
                    member.size > _ROWS * _RECORD
                ):  # tarfile would go on to its end, though it may not be there
                    raise DataError(f"{archive}: holds a file of {member.size:,} bytes; {_MEND}")
                name = wanted.get(member.name.removeprefix("./"))
                if name is None or not member.isreg():
                    continue
                del wanted[f"{_INSIDE}/{name}"]
                place = f"{archive}: {name}"
                _check_size(member.size, place)
                content = packed.extractfile(member)
                assert content is not None  # it is a regular file
                yield name, place, content.read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: corrupt archive ({error}); {_MEND}") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror or error}); {_MEND}") from error
    for name in wanted.values():
        raise DataError(f"{archive}: has no {_INSIDE}/{name}; {_MEND}")


def _check_size(size: int, place: str) -> None:
    if size != _ROWS * _RECORD:
        raise DataError(f"{place}: {size:,} bytes, not {_ROWS * _RECORD:,}; {_MEND}")


def _records(content: bytes, place: str) -> NDArray[np.uint8]:
    """Return uint8 `[pictures, 1 + pixels]`."""
    _check_size(len(content), place)
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    top = int(records[:, 0].max())
    if top >= CLASSES:
        raise DataError(f"{place}: label {top}, the largest may be {CLASSES - 1}; {_MEND}")
    return records
