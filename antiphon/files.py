"""Files of run directories: the one place that opens, reads and writes them.

What is read may come from anywhere: links and special files are refused unopened, sizes are looked at before reading,
and the nesting of JSON before it is parsed. What is written is whole or not there, also after a power cut.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, TextIO, cast

from antiphon.errors import RunError

__all__ = [
    "DELETE",
    "check_folder",
    "check_regular",
    "cut",
    "digest_of",
    "finite",
    "open_binary",
    "open_text",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_object",
    "read_rows",
    "read_text",
    "rewriting",
    "sync_file",
    "sync_folder",
    "unwritable",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_json_over",
    "write_text",
    "writing",
]

LIMIT = 64 * 2**20
"""Bytes of a text or JSON file, at most, where nothing else is set."""
DEPTH = 64
"""Levels of lists and objects in JSON, at most."""
_LINE = 16 * 2**20
"""Characters of a line of a table, at most."""
_PARSED = 768 * 2**20
"""Bytes that a parsed JSON file may take, at most, by the estimate below."""
_CONTAINER, _ITEM = 240, 80
"""Bytes of a list or object, and of an item in one, in Python."""
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
_RESTORE = "restore the file from a copy"
DELETE = "delete it, and it is written anew"
"""The fix of a damaged file that holds nothing but results."""
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EBADF, errno.EPERM}
"""What systems answer that cannot write a file or folder through to the disk."""
_BLOCK = 512
"""Bytes of a block as `stat` counts them."""


# --- opening ------------------------------------------------------------------------------------------------


def check_regular(path: Path) -> None:
    """Refuse whatever is no file with content of its own; nothing is opened.

    Raises:
        RunError: A link, folder, FIFO, device or socket, or nothing, is there.
    """
    try:
        _check_mode(path, os.lstat(path).st_mode)
    except OSError as error:
        raise _unreadable(path, error) from None


def check_folder(path: Path) -> None:
    """Refuse a link in the place of a folder; what is not there is not refused.

    Raises:
        RunError: A link, or no folder, is there.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISDIR(mode):
        what = "a link" if stat.S_ISLNK(mode) else "no folder"
        raise RunError(f"{path}: is {what}, which a run directory does not hold; replace it by the folder")


def open_binary(path: Path) -> io.BufferedReader:
    """Open a file for reading.

    Raises:
        RunError: It is no regular file, not there, or cannot be read.
    """
    return os.fdopen(_descriptor(path, os.O_RDONLY), "rb")


def open_text(path: Path, *, append: bool = False) -> TextIO:
    """Open a table for reading, or for appending, where a new one may begin; bytes that are no UTF-8 are kept as surrogates.

    Raises:
        RunError: It is no regular file, cannot be read, or is not there and is to be read.
        OSError: It cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND if append else os.O_RDONLY
    if append and not os.path.lexists(path):
        flags |= os.O_CREAT | os.O_EXCL
    return cast("TextIO", os.fdopen(_descriptor(path, flags), "a" if append else "r", **_TEXT))


def _descriptor(path: Path, flags: int) -> int:
    if not flags & os.O_CREAT:
        check_regular(path)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        if flags & os.O_APPEND:
            raise
        raise _unreadable(path, error) from None
    try:
        _check_mode(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO"}
        kind = kinds.get(stat.S_IFMT(mode), "a device or socket")
        raise RunError(
            f"{path}: is {kind}, which a run directory does not hold; replace it by the file itself"
        )


def _unreadable(path: Path, error: OSError | ValueError) -> RunError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return RunError(f"{path}: is not there; {_RESTORE}")
    return RunError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})")


# --- reading ------------------------------------------------------------------------------------------------


def read_bytes(path: Path, limit: int = LIMIT, fix: str = _RESTORE) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        limit: Bytes, at most; looked at before anything is read.
        fix: What to do about a damaged one: the end of errors.

    Raises:
        RunError: As of `open_binary`, or it is larger.
    """
    with open_binary(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            content = file.read(limit + 1) if size <= limit else b""
        except OSError as error:
            raise _unreadable(path, error) from None
    if max(size, len(content)) > limit:
        raise RunError(f"{path}: has {size:,} bytes, more than {limit:,}; {fix}")
    return content


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        RunError: As of `read_bytes`, or it is not UTF-8.
    """
    content = read_bytes(path)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RunError(f"{path}:{line}: is damaged (byte {error.start:,} is not UTF-8); {_RESTORE}") from None


def read_json(path: Path, fix: str = _RESTORE) -> Any:
    """Return the data of a JSON file.

    Raises:
        RunError: As of `read_bytes`, or it is not the JSON of finite numbers, nested too deeply, or too large in memory.
    """
    return parse_json(read_bytes(path, fix=fix), path, fix=fix)


def read_object(
    path: Path, check: Callable[[dict[str, Any]], None] | None = None, fix: str = _RESTORE
) -> dict[str, Any]:
    """Return the object of a JSON file; an empty one where there is no file.

    Args:
        path: The file.
        check: Raises KeyError, TypeError or ValueError, with what is wrong, of an object that is not accepted.
        fix: As of `read_bytes`.

    Raises:
        RunError: As of `read_json`, or it is something else.
    """
    if not os.path.lexists(path):
        return {}
    found = read_json(path, fix=fix)
    try:
        if not isinstance(found, dict):
            raise TypeError("no object")
        if check is not None:
            check(found)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(f"{path}: is damaged ({_worded(error)}); {fix}") from None
    return found


def _worded(error: Exception) -> str:
    text = f"no {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(text.split())[:120]


def parse_json(content: bytes, place: Path | str, *, any_number: bool = False, fix: str = _RESTORE) -> Any:
    """Return the data of a JSON text; `place` begins the errors.

    Args:
        content: UTF-8.
        place: Of the text.
        any_number: Whether NaN and infinite numbers are accepted, as Python writes them.
        fix: As of `read_bytes`.

    Raises:
        RunError: It is not JSON, nested too deeply, or too large in memory.
    """
    _check_extent(content, place, fix)
    kinds: dict[str, Any] = (
        {} if any_number else {"parse_constant": _finite_only, "parse_float": _finite_float}
    )
    try:
        found = json.loads(content.decode(), **kinds)
        if b"\\u" in content:
            json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise RunError(f"{place}: is damaged (not JSON: {_worded(error)}); {fix}") from None
    return found


def _check_extent(content: bytes, place: Path | str, fix: str) -> None:
    """Refuse JSON that would nest too deeply, or take too much memory, before it is parsed; brackets in strings do not count."""
    containers = content.count(b"[") + content.count(b"{")
    if containers > DEPTH:
        sides = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
        others = bytes(set(range(256)) - sides.keys())
        brackets = b"".join(_outside_strings(content)).translate(None, others)
        if max(accumulate(map(sides.__getitem__, brackets)), default=0) > DEPTH:
            raise RunError(f"{place}: is damaged (more than {DEPTH} levels of brackets); {fix}")
    items = content.count(b",") + content.count(b":")
    if len(content) + containers * _CONTAINER + items * _ITEM > _PARSED:
        raise RunError(f"{place}: is damaged ({containers + items:,} items); {fix}")


def _outside_strings(content: bytes) -> Iterator[bytes]:
    """Yield what of a JSON text is outside of strings."""
    pieces = content.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    yield from pieces[::2]


def _finite_only(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, cells) of every line of a table, without a torn last one.

    Raises:
        RunError: As of `open_text`, or a line is too long, or quoted without an end.
    """
    with open_text(path) as file:
        lines = _WholeLines(path, file)
        table = csv.reader(lines)
        try:
            for cells in table:
                if not lines.torn:  # else its quotes end in the torn line
                    yield table.line_num, cells
        except csv.Error as error:
            raise RunError(f"{path}:{table.line_num}: is damaged ({error}); fix or remove the line") from None
        except OSError as error:
            raise _unreadable(path, error) from None


class _WholeLines:
    """Iterator over the lines of a file that have an end.

    Attributes:
        torn: Whether the last line has none; known at the end.
    """

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path, self._file = path, file
        self.torn = False

    def __iter__(self) -> Iterator[str]:
        """Yield the lines."""
        number = 0
        while line := self._file.readline(_LINE):
            number += 1
            if line.endswith("\n"):
                yield line
            elif len(line) == _LINE:
                raise RunError(
                    f"{self._path}:{number}: has a line of more than {_LINE:,} characters; {_RESTORE}"
                )
            else:
                self.torn = True


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits; RunError as of `open_binary`."""
    with open_binary(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(path, error) from None


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
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = (
        "free space there, and resume the run if it had begun" if full else "choose a log directory that can"
    )
    return RunError(f"{path}: cannot be written ({error.strerror or error}); {fix}")


@contextmanager
def rewriting(path: Path) -> Iterator[IO[str]]:
    """Replace a table: the old one is kept until the new one is complete and on the disk.

    Raises:
        RunError: What is there is no regular file.
        OSError: The file cannot be written.
    """
    with _replacing(path, "x", **_TEXT) as file:
        yield file


@contextmanager
def _replacing(path: Path, mode: str, **text: Any) -> Iterator[IO[Any]]:
    if os.path.lexists(path):
        check_regular(path)
    sibling = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with sibling.open(mode, **text) as file:
            yield file
            sync_file(file)
        os.replace(sibling, path)
        sync_folder(path.parent)
    finally:
        sibling.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, what is not finite as null; RunError where it cannot be written."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_over(path: Path, value: Any) -> None:
    """Write plain data over a JSON file, in the space that it has: for a full disk. It is not safe from a power cut.

    Raises:
        RunError: It cannot be written, or needs more space.
    """
    content = json.dumps(finite(value), ensure_ascii=False, allow_nan=False).encode()
    with writing(path), os.fdopen(_descriptor(path, os.O_RDWR), "r+b", buffering=0) as file:
        found = os.fstat(file.fileno())
        if len(content) > max(found.st_size, getattr(found, "st_blocks", 0) * _BLOCK):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.write(content.ljust(found.st_size))  # blanks, until it is cut off: JSON at any time
        file.truncate(len(content))
        sync_file(file)


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
    with writing(path), _replacing(path, "xb") as file:
        file.write(content)


def cut(path: Path, size: int) -> None:
    """Cut a file off after so many bytes.

    Raises:
        RunError: It is no regular file.
        OSError: It cannot be written.
    """
    with os.fdopen(_descriptor(path, os.O_RDWR), "r+b") as file:
        file.truncate(size)
        sync_file(file)


def sync_file(file: IO[Any]) -> None:
    """Wait until what has been written to an open file is on the disk; where the file system cannot, go on.

    Raises:
        OSError: The disk is full, or broken.
    """
    file.flush()
    _sync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; where the file system cannot, go on.

    Raises:
        OSError: The disk is broken.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return
        raise
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
