"""Common functions of data set readers: the user's folder or the download cache, the size limit of a file, and images.
Needs no torch.

A small file can unpack to more than the memory of any machine: data may take half of the memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import DataError, require
from antiphon.base.memory import installed_memory

SPLITS = ("train", "validation", "test")
Identity = tuple[str, int, int]
"""Identity of a file: its path, size in bytes and time of change in nanoseconds."""
_UNKNOWN = 8 * 2**30
"""Bytes of memory that are assumed if the system's memory is unknown."""


def identity(paths: Iterable[Path]) -> tuple[Identity, ...]:
    """Return the identities of some files: the cache key of their contents."""
    stats = [(path, path.stat()) for path in paths]
    return tuple((str(path), facts.st_size, facts.st_mtime_ns) for path, facts in stats)


def find_folder(name: str) -> Path | None:
    """Return the folder of a data set, `$ANTIPHON_DATA/name` or the cache, if it exists."""
    data = os.environ.get("ANTIPHON_DATA")
    if data and (Path(data) / name).is_dir():
        return Path(data) / name
    with suppress(DataError):
        if (cache := cache_folder(name)).is_dir():
            return cache
    return None


def nowhere(title: str, name: str, files: str) -> DataError:
    """Return the error for a data set without a folder; `files` describes the files that it needs."""
    data = os.environ.get("ANTIPHON_DATA")
    reason = f"ANTIPHON_DATA is '{data}', which has no folder {name}" if data else "ANTIPHON_DATA is not set"
    fix = f"set it to a folder with {files}, or call antiphon.envs.download('{name}')"
    return DataError(f"{title}: {reason}; {fix}")


def fetch(name: str, url: str, checksum: str, members: list[str] | None = None) -> None:
    """Download a file into the folder of a data set in the cache, verify it, and extract members of an archive beside it.

    Existing files are kept; `checksum` of the file is `md5:…`.

    Raises:
        DataError: pooch is not installed, or the download failed.
    """
    folder = cache_folder(name)
    import pooch  # type: ignore[import-untyped]

    unpack = None if members is None else pooch.Untar(members, extract_dir=".")
    try:
        pooch.retrieve(url, checksum, url.rpartition("/")[2], folder, processor=unpack)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        reason = str(error).splitlines()[0]
        fix = f"try again, or set ANTIPHON_DATA to a folder with {name}/"
        raise DataError(f"{url}: download failed ({reason}); {fix}") from error


def cache_folder(name: str) -> Path:
    """Return the cache folder of a data set, whether it exists or not; DataError without pooch, which defines its path."""
    try:
        import pooch
    except ImportError as error:
        fix = f"pip install 'antiphon[data]', or set ANTIPHON_DATA to a folder with {name}/"
        raise DataError(f"downloading needs pooch: {fix}") from error
    return Path(pooch.os_cache("antiphon")) / name


def most_bytes() -> int:
    """Return the most bytes that one file's data may take: half of this machine's memory."""
    return (installed_memory() or _UNKNOWN) // 2


def check_fits(source: Path | str, size: int, fix: str) -> None:
    """Reject data of more than half of this machine's memory, before they are read: DataError with the fix."""
    most = most_bytes()
    much = f"its data take {size:,} bytes, more than half of this machine's memory ({most:,})"
    require(size <= most, source, f"{much}; {fix}")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Images with their classes and splits."""

    pixels: NDArray[np.uint8]
    """`[count, height, width]`, or for coloured images `[count, 3, height, width]`."""
    labels: NDArray[np.uint8]
    """`[count]`, classes numbered from 0."""
    splits: dict[str, NDArray[Any]]
    """Indices of each split; no image is in two splits."""
    white: int
    """The pixel value that becomes 1.0."""


def in_order(counts: dict[str, int]) -> dict[str, NDArray[np.int64]]:
    """Return the indices of consecutive splits of these sizes."""
    ends = np.cumsum(list(counts.values()))
    return dict(zip(counts, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
