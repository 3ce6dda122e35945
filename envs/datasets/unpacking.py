"""Limits on data files: a small file can hold, or unpack to, more than the memory of any machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from antiphon.errors import DataError

__all__ = ["BoundedFile", "check_fits", "most_bytes"]

_CHUNK = 2**20
"""Bytes that are unpacked at once."""
_UNKNOWN = 8 * 2**30
"""Bytes of memory where the system does not tell."""


def most_bytes() -> int:
    """Return the bytes that one file's data may take: half of this machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN // 2


def check_fits(path: Path, size: int, fix: str) -> None:
    """Refuse data that would take more than half of this machine's memory, before any is read.

    Args:
        path: The file.
        size: Bytes of its data in memory.
        fix: What to do about it: the end of the error.

    Raises:
        DataError: They are too many.
    """
    if size > (most := most_bytes()):
        raise DataError(
            f"{path}: its data take {size:,} bytes, more than half of this machine's memory ({most:,}); {fix}"
        )


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class BoundedFile:
    """A binary file that may be read up to a number of bytes, in pieces that are not asked for at once.

    Args:
        file: Open for reading, such as one that unpacks.
        most: Bytes, at most.
        error: Raised, in its words, by a read of more.
    """

    def __init__(self, file: _Readable, most: int, error: str) -> None:
        self._file, self._left, self._error = file, most, error

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end of the file.

        Raises:
            DataError: The file has more than it may have.
        """
        pieces: list[bytes] = []
        while size > 0 and (piece := self._file.read(min(size, _CHUNK))):
            pieces.append(piece)
            size -= len(piece)
            self._left -= len(piece)
            if self._left < 0:
                raise DataError(self._error)
        return b"".join(pieces)
