"""Files of run directories: what is written is whole or not there, also after a power cut. Loads without torch."""

from __future__ import annotations

import csv
import errno
import importlib.metadata
import io
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from antiphon.base.errors import AntiphonError, RunError

FORMAT = 13
"""Version of run directories and checkpoints. Another one is refused."""
STATE = "state.json"
"""The file of a checkpoint that says what it is of."""
SIZES = "sizes.json"
"""The file of a run's checkpoint with the bytes of each file of the run that grows."""
_TEMPORARY = ".tmp"
"""Suffix of a file that gets its name once it is complete."""

try:
    VERSION = importlib.metadata.version("antiphon")
    """The version of this antiphon, as files have it."""
except importlib.metadata.PackageNotFoundError:
    VERSION = "not installed"


# --- reading ------------------------------------------------------------------------------------------------


def given_path(path: str | os.PathLike[str]) -> Path:
    """Return a folder or file that a user names, `~` as the home folder: absolute, so that a later chdir does not move it."""
    return Path(path).expanduser().absolute()


def display_path(path: str | os.PathLike[str]) -> str:
    """Format a path as it is typed: relative, where it is in the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert the errors of a file that is missing, or not whole, to a one-line RunError."""
    try:
        yield
    except AntiphonError:
        raise
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; RunError where it cannot be read, or has a `format` of another version."""
    with reading(path):
        content: dict[str, Any] = json.loads(path.read_bytes())
    version = content.get("format", FORMAT)
    if version != FORMAT:
        writer = f"antiphon {content['antiphon']}" if "antiphon" in content else "another antiphon"
        raise RunError(
            f"{path}: was written by {writer} (format {version}, here {FORMAT}); read it with that version, or run again"
        )
    return content


def is_checkpoint(folder: Path) -> bool:
    return (folder / STATE).is_file()


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run directory that a run continues from, oldest first."""
    folders = filter(is_checkpoint, run.glob("checkpoints/step-*"))
    return sorted(folders, key=lambda path: int(path.name.removeprefix("step-")))


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
    """Convert the operating system's write errors to a one-line RunError."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: cannot be written ({error.strerror or error})")


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, what is not finite as null; RunError where it cannot be written."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a table; RunError where the file system refuses."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file: a reader gets the old one or the new one, which is on the disk; RunError where it cannot be written."""
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
        if path.is_file():
            path.unlink(missing_ok=True)


def cut(path: Path, size: int) -> None:
    """Truncate a file to a size; one of this size, as of an earlier session, waits for no disk. OSError where it cannot be written."""
    with path.open("r+b") as file:
        if os.fstat(file.fileno()).st_size != size:
            file.truncate(size)
            sync_file(file)


def sync_file(file: IO[Any]) -> None:
    """Wait until what has been written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
