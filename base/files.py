"""Files of run directories: the one place that opens, reads and writes them.

Links and special files are refused, and sizes are looked at before anything is read. What is written is whole or not there,
also after a power cut.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO, cast

from antiphon.base.errors import AntiphonError, RunError
from antiphon.base.memory import was_refused

LIMIT = 64 * 2**20
"""Bytes of a text or JSON file, at most, where nothing else is set."""
_LINE = 16 * 2**20
"""Characters of a line of a table, at most."""
_RESTORE = "restore it from a copy"
_TEMPORARY = ".tmp"
"""Suffix of a file that gets its name once it is complete."""
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EBADF, errno.EPERM}
"""What systems answer that cannot write a file or folder through to the disk."""
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""Flags with which a link is refused, and a FIFO does not hold anybody up."""


# --- reading ------------------------------------------------------------------------------------------------


def given_path(path: str | os.PathLike[str], name: str = "path") -> Path:
    """Return a folder or file that a user names, as it is meant now: absolute, so that a later chdir does not move it.

    | given | meant |
    | --- | --- |
    | relative | in the present working directory |
    | `~/…`, `~user/…` | in the home folder |
    | the empty string, other objects | refused |

    Args:
        path: As it was given; links in it are kept.
        name: What it is called where it was given.

    Raises:
        RunError: It names no folder or file.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        raise RunError(f"{name}: must be a path, not {type(path).__name__}") from None
    if not isinstance(text, str) or not text or "\0" in text:
        raise RunError(
            f"{name}: {text!r} names no folder or file; give a path ('.' is the working directory)"
        )
    try:
        absolute = Path(text).expanduser().absolute()
    except (OSError, RuntimeError) as error:  # no such home, or a working directory that was removed
        raise RunError(f"{name}: {text}: {error}; give an absolute path") from None
    try:
        absolute.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise RunError(
                f"{name}: {text[:40]!r}… names no folder or file; give a path of shorter names"
            ) from None
    return absolute


def display_path(path: str | os.PathLike[str]) -> str:
    """Format a path as it is typed: relative, where it is in the working directory."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the working directory was removed, or it is on another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative


@contextmanager
def fitting(path: Path | str) -> Iterator[None]:
    """Convert what unusable content of a file raises, whoever wrote it, to a one-line RunError.

    Raises:
        RunError: The file cannot be read, or its content is not what the code in the block works with.
    """
    try:
        yield
    except AntiphonError:
        raise
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
            csv.Error) as error:  # fmt: skip
        if was_refused(error):
            raise
        text = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        reason = " ".join(text.split())[:120]
        raise RunError(
            f"{path}: cannot be used ({reason}); {_RESTORE}, or report a bug in antiphon"
        ) from error


def open_binary(path: Path) -> io.BufferedReader:
    """Open a file for reading.

    Raises:
        RunError: It is no regular file, not there, or cannot be read.
    """
    return os.fdopen(_descriptor(path, os.O_RDONLY), "rb")


def open_text(path: Path, *, append: bool = False) -> TextIO:
    """Open a table for reading, or for appending, where a new one may begin.

    Raises:
        RunError: It is no regular file, not there, or cannot be read.
        OSError: It cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT if append else os.O_RDONLY
    descriptor = _descriptor(path, flags)
    return cast("TextIO", os.fdopen(descriptor, "a" if append else "r", encoding="utf-8", newline=""))


def _descriptor(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | _SAFELY | getattr(os, "O_BINARY", 0), 0o666)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path}: is missing; {_RESTORE}") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_file(path) from None
        if flags & os.O_WRONLY:
            raise
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return descriptor


def _no_file(path: Path) -> RunError:
    return RunError(f"{path}: is a link, a folder or a special file; replace it with the file itself")


def check_regular(path: Path) -> None:
    """Raise RunError where something else is in the place of a file that is going to be written; nothing is fine."""
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise _no_file(path)


def check_folder(path: Path) -> None:
    """Raise RunError where a link is in the place of a folder that is written in."""
    if path.is_symlink():
        raise RunError(
            f"{path}: is a link, which is not allowed in a run directory; replace it with the folder"
        )


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Raises:
        RunError: See `open_binary`; or it is larger.
    """
    with open_binary(path) as file, fitting(path):
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise RunError(f"{path}: has {size:,} bytes, more than {limit:,}; {_RESTORE}")
        return file.read(limit)


def read_rows(path: Path, header: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Yield the rows of a table, without a last one that has no end of line; under its header, where one is given.

    Raises:
        RunError: See `open_text`.
        ValueError: It has another header, or a line without end; or another error that `fitting` converts.
    """
    with open_text(path) as file:
        rows = csv.reader(_whole_lines(file))
        if header and tuple(next(rows, header)) != header:
            raise ValueError(f"its first line should be '{','.join(header)}'")
        yield from rows


def _whole_lines(file: TextIO) -> Iterator[str]:
    while (line := file.readline(_LINE)).endswith("\n"):
        yield line
    if len(line) == _LINE:
        raise ValueError(f"a line of more than {_LINE:,} characters")


# --- writing ------------------------------------------------------------------------------------------------


def finite(value: Any) -> Any:
    """Return plain data with every float that is not finite replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert the operating system's write errors to a one-line RunError.

    Raises:
        RunError: The file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> RunError:
    """Return the error for a file that cannot be written."""
    remedy = remedy_of(error)
    fix = f"{remedy}, and resume the run if it had started" if remedy else "choose a writable folder"
    return RunError(f"{path}: cannot be written ({error.strerror or error}); {fix}")


def remedy_of(error: OSError) -> str | None:
    """Return how to get more of what the system has run out of; None: the error is of another kind."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free disk space"
    return "raise the limit with `ulimit -n`" if error.errno in (errno.EMFILE, errno.ENFILE) else None


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, what is not finite as null; RunError where it cannot be written."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a table; RunError where the file system refuses."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file: a reader gets the old one or the new one, which is on the disk.

    Raises:
        RunError: It cannot be written, or what is there is no regular file.
    """
    check_regular(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_TEMPORARY}")
    with writing(path):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                sync_file(file)
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def remove_temporary(folder: Path) -> None:
    """Remove the half-written files that a killed process left in a folder; the caller holds the lock of its files."""
    for path in folder.glob(f".*.????????{_TEMPORARY}"):
        if path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def cut(path: Path, size: int) -> None:
    """Cut a file off after so many bytes; one that ends there, as of an earlier session, waits for no disk.

    Raises:
        RunError: It is no regular file.
        OSError: It cannot be written.
    """
    with os.fdopen(_descriptor(path, os.O_RDWR), "r+b") as file:
        if os.fstat(file.fileno()).st_size != size:
            file.truncate(size)
            sync_file(file)


def sync_file(file: IO[Any]) -> None:
    """Wait until what has been written to an open file is on the disk; where the file system cannot, go on."""
    file.flush()
    with _where_possible():
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; where the file system cannot, go on."""
    with _where_possible():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _where_possible() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
