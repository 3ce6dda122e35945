"""The lock of a directory: one process writes there at a time, and the next one removes what a killed process left.

The operating system keeps the lock (flock), so that it ends with its process, however that ends; `run.lock` says whose it
is. Where a file system has no such locks, and between two machines, the file alone decides. Loads without torch.
"""

from __future__ import annotations

import datetime
import errno
import json
import os
import re
import shutil
import socket
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from antiphon.errors import RunError
from antiphon.files import writing

try:
    import fcntl
except ImportError:  # not on this operating system
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "DirectoryLock", "locked", "remove_abandoned", "remove_temporary"]

LOCK = "run.lock"
"""The file's name in a run directory."""
_LONGEST = 4096
"""Bytes of the file, at most."""
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8}|tmp)")
"""Names of files and folders that are renamed once they are complete."""
_BEGUN = {LOCK, "scenario.yaml", "run.json", "checkpoints"}
"""What is in a run directory before it gets its name."""
_AGE = 60.0
"""Seconds after which a folder without a lock is abandoned."""


class DirectoryLock:
    """The right to write in a directory, held until `release` or until the process ends.

    Args:
        folder: The directory, which exists.
        name: The lock's file in it.

    Raises:
        RunError: Another process has it, or this one already (the line says which, and on which machine), or the file
            cannot be written.
    """

    def __init__(self, folder: Path, name: str = LOCK) -> None:
        self.path = folder / name
        with writing(self.path):
            descriptor = self._open()
        self._paths, self._descriptor = [self.path], descriptor
        self._release = weakref.finalize(self, _release, descriptor, self._paths, os.getpid())

    def follow(self, folder: Path) -> None:
        """Follow the directory, which has been renamed."""
        self.path = self._paths[0] = folder / self.path.name

    @property
    def in_place(self) -> bool:
        """Whether the directory is still the one that was locked: not deleted, moved or replaced."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except OSError:
            return False

    def release(self) -> None:
        """Give it up, and remove the file; a second call does nothing."""
        self._release()

    def _open(self) -> int:
        """Return the descriptor of the file that holds the lock."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(self.path, flags, 0o644)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise RunError(f"{self.path}: is no regular file; delete it")
                if self._take(descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its holder has just removed it

    def _take(self, descriptor: int) -> bool:
        """Take the lock; RunError where somebody has it, False where the file is not the one in the directory any more."""
        kept = _flock(descriptor)
        holder = _holder(descriptor)
        if kept is False or (holder is not None and _may_live(holder, kept=kept is True)):
            raise RunError(self._refusal(holder or {}))
        inode = os.fstat(descriptor).st_ino
        try:
            if os.stat(self.path).st_ino != inode:
                return False
        except FileNotFoundError:
            return False
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        own = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "inode": inode}
        own["process_start"] = _process_start(os.getpid())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(own) + "\n").encode(), 0)
        return True

    def _refusal(self, holder: dict[str, Any]) -> str:
        who = (
            f"process {holder['pid']} on {holder['host']} since {holder['since']}"
            if holder
            else "another process"
        )
        if holder and holder["host"] != socket.gethostname():
            fix = f"if that process is gone, delete {self.path}"
        elif holder.get("pid") == os.getpid():
            fix = "that is this process: close the simulation that writes there"
        else:
            fix = "wait until it has ended, or stop it"
        return f"{self.path.parent}: is being written by {who}; {fix}"


def _flock(descriptor: int) -> bool | None:
    """Lock a file for this process; False: another one has it, None: the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _holder(descriptor: int) -> dict[str, Any] | None:
    """Return what the file says of its holder; None where it says nothing, is damaged, or was copied from elsewhere."""
    try:
        found = json.loads(os.pread(descriptor, _LONGEST, 0))
        if found["inode"] != os.fstat(descriptor).st_ino:
            return None
        host, since = (re.sub(r"[^ -~]", "?", str(found[key]))[:64] for key in ("host", "since"))
        start = found.get("process_start")
        return {"pid": int(found["pid"]), "host": host, "since": since, "process_start": start}
    except (ValueError, OverflowError, KeyError, TypeError, RecursionError):
        return None


def _may_live(holder: dict[str, Any], *, kept: bool) -> bool:
    """Return whether a holder may still run; `kept`: the operating system says that none on this machine has the lock."""
    if holder["host"] != socket.gethostname():
        return True
    return not kept and _alive(holder)


def _alive(holder: dict[str, Any]) -> bool:
    """Return whether the process of a holder on this machine runs; another one may have got its number since."""
    try:
        os.kill(holder["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # it is another user's
    return holder["process_start"] in (None, _process_start(holder["pid"]) or holder["process_start"])


def _process_start(pid: int) -> str | None:
    """Return when a process of this machine began: boot, and clock ticks since; None where that is not known."""
    with suppress(OSError, IndexError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        return f"{boot} {fields[19]}"
    return None


def _release(descriptor: int, paths: list[Path], pid: int) -> None:
    """Remove the file while the lock is held, so that nobody takes a file that is gone."""
    (path,) = paths
    if pid == os.getpid():  # not in a process forked off
        with suppress(OSError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                path.unlink()
    with suppress(OSError):
        os.close(descriptor)


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
        remove_abandoned(folder)
        yield
    finally:
        lock.release()
        if made:
            with suppress(OSError):
                folder.rmdir()


def remove_temporary(folder: Path) -> None:
    """Remove the half-written files that a killed process left in a folder; the caller holds the lock of its files."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError):
                path.unlink()


def remove_abandoned(folder: Path) -> None:
    """Remove half-made run directories from a log directory whose processes were killed on this machine."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_dir() and not path.is_symlink() and _abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """Return whether a folder is a run directory that was not finished, and whose process is dead."""
    try:
        found = {path.name for path in folder.iterdir() if not _TEMPORARY.fullmatch(path.name)}
        if not found <= _BEGUN:
            return False
        old = time.time() - folder.stat().st_mtime > _AGE
        if LOCK not in found:
            return not any(folder.iterdir()) and old
        descriptor = os.open(folder / LOCK, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        holder = _holder(descriptor)
        if holder is None:  # killed before it had written its name
            return old and found == {LOCK} and _flock(descriptor) is True
    finally:
        os.close(descriptor)
    return holder["host"] == socket.gethostname() and not _alive(holder)
