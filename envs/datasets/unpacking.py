"""Limits on data files: a small file can hold, or unpack to, more than the memory of any machine."""

from __future__ import annotations

from pathlib import Path

from antiphon.errors import require
from antiphon.nets.memory import installed_memory

__all__ = ["check_fits", "most_bytes"]

_UNKNOWN = 8 * 2**30
"""Bytes of memory where the system does not tell."""


def most_bytes() -> int:
    """Return the bytes that one file's data may take: half of this machine's memory."""
    return (installed_memory() or _UNKNOWN) // 2


def check_fits(path: Path, size: int, fix: str) -> None:
    """Refuse data that would take more than half of this machine's memory, before any is read.

    Args:
        path: The file.
        size: Bytes of its data in memory.
        fix: What to do about it: the end of the error.

    Raises:
        DataError: They are too many.
    """
    most = most_bytes()
    much = f"its data take {size:,} bytes, more than half of this machine's memory ({most:,})"
    require(size <= most, path, f"{much}; {fix}")
