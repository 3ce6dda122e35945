"""The lock of a directory: one process writes there at a time. The operating system ends it with its process. Loads without torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from antiphon.errors import RunError
from antiphon.files import remove_temporary, writing

__all__ = ["LOCK", "DirectoryLock", "locked"]

LOCK = "run.lock"
"""The file's name in a run directory."""


class DirectoryLock:
    """The right to write in a directory, held until `release` or until the process ends.

    Args:
        folder: The directory, which exists.

    Raises:
        RunError: Another process has it, or this one already, or the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import (
            FileLock,
            Timeout,
        )  # here, for it takes longer to import than most commands that only read

        self._path = folder / LOCK
        self._lock = FileLock(self._path, timeout=0, thread_local=False)
        with writing(self._path):
            try:
                self._lock.acquire()
            except Timeout:
                raise RunError(
                    f"{folder}: is being written by another process, or by a simulation in this one; wait until it has "
                    "ended, or stop it"
                ) from None

    def release(self) -> None:
        """Give it up, and remove the file; a second call does nothing."""
        if self._lock.is_locked:
            self._path.unlink(missing_ok=True)
            self._lock.release()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing in a folder of results, which is made if need be, and removed again if it stays empty.

    What killed processes left half-written there is removed.

    Raises:
        RunError: As of `DirectoryLock`.
    """
    made = not folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = DirectoryLock(folder)
    try:
        remove_temporary(folder)
        yield
    finally:
        lock.release()
        if made:
            with suppress(OSError):
                folder.rmdir()
