"""The lock of a directory: one process writes there at a time. The operating system ends it with its process. Loads without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from antiphon.base.errors import RunError
from antiphon.base.files import remove_temporary, writing

LOCK = "run.lock"
"""The file's name in a run directory."""
_PATIENCE = 60.0
"""Seconds to wait for another process to rewrite a file of results."""
_HELD = "is being written now by another process, or by a simulation in this one; wait until it has ended, or stop it"


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Keep other processes from reading and rewriting a file, also in a directory whose run goes on.

    Raises:
        RunError: Another process has kept it for a minute, or the lock cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_PATIENCE, thread_local=False)
    with writing(path):
        try:
            lock.acquire()
        except Timeout:
            raise RunError(f"{path}: is being written by another process; wait until it has ended") from None
    try:
        yield
    finally:
        with suppress(OSError):  # a file that stays is no lock
            Path(lock.lock_file).unlink()
        lock.release()


def has_stale_lock(folder: Path) -> bool:
    """Return whether a directory has a lock file that no process here holds: its process was killed, or is on another machine.

    The lock is tried, for a moment and beside other readers.
    """
    try:
        import fcntl

        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


class DirectoryLock:
    """The right to write in a directory, held until `release`, or the end of its context or of the process.

    The directory is made if need be, with those above it, and they are removed again if they stay empty. What killed processes left half-written is removed.

    Raises:
        RunError: Another process has it, or this one already, or the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock, Timeout  # slower to import than most commands that only read

        if folder.is_file():
            raise RunError(f"{folder}: is a file, and runs are written to a folder; choose another name")
        self._path, self._process = folder / LOCK, os.getpid()
        self._made_folders = [path for path in (folder, *folder.parents) if not path.exists()]
        self._lock = FileLock(self._path, timeout=0, thread_local=False)
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._folder_status = os.stat(folder)
            try:
                self._lock.acquire()
            except Timeout:
                raise RunError(f"{folder}: {_HELD}") from None
            try:
                remove_temporary(folder)
            except OSError:
                self.release()
                raise

    @property
    def inherited(self) -> bool:
        """Whether this process was forked from the one that has it, and has none itself."""
        return os.getpid() != self._process

    @property
    def in_place(self) -> bool:
        """Whether the directory is still the one that was locked: not deleted, moved or replaced."""
        try:
            return os.path.samestat(os.stat(self._path.parent), self._folder_status)
        except OSError:
            return False

    def release(self) -> None:
        """Give it up, and remove the file, if the directory is in place; a second call does nothing, nor does a forked process."""
        if self._lock.is_locked and not self.inherited:
            in_place = self.in_place
            if in_place:
                with suppress(OSError):  # a file that stays is no lock
                    self._path.unlink()
            self._lock.release()
            with suppress(OSError):  # of the first that is not empty
                for made_folder in self._made_folders if in_place else ():
                    made_folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
