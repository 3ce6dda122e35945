"""Manifests: length and SHA-256 of every file of a run and of a checkpoint that is read again.

A manifest is written last and verified first; what its digests cover is trusted. That of a run is run.json, that of a
checkpoint manifest.json in its folder. Each holds a digest of itself. Loads without torch.

Which checkpoints a run keeps is in `running/checkpoints.py`; `engine/state/checkpoint.py` writes and reads one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError
from antiphon.base.files import check_folder, finite, fitting, open_binary, read_bytes, write_json

FORMAT = 11
"""Version of run directories and checkpoints. Another one is refused."""
MANIFEST = "manifest.json"
DELETE = "delete it, and it will be written again"
"""The fix of a damaged file that holds nothing but results."""
_RESTORE = "restore it from a copy"
_OWN = "sha256"
"""Key of the digest of a JSON file's other entries."""
_BLOCK = 2**20

try:
    VERSION = importlib.metadata.version("antiphon")
    """The version of this antiphon, as files have it."""
except importlib.metadata.PackageNotFoundError:
    VERSION = "not installed"

Entry = dict[str, Any]
"""`bytes` and `sha256` of a file, or of its beginning."""


class GrowingFile:
    """Length and SHA-256 of a file that grows; each call reads on from where the last one ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = hashlib.sha256(), 0

    def entry(self, size: int | None = None) -> Entry:
        """Return the entry of the first `size` bytes, which are not fewer than before; None: of all that is there."""
        sha, count = self._read[0].copy(), self._read[1]
        with open_binary(self.path) as file, fitting(self.path):
            file.seek(count)
            while block := file.read(_BLOCK if size is None else min(_BLOCK, size - count)):
                sha.update(block)
                count += len(block)
        self._read = sha, count  # at once: a signal may come at any moment
        return {"bytes": count, "sha256": sha.hexdigest()}


def entry_of(path: Path) -> Entry:
    """Return the entry of a file; RunError where it cannot be read."""
    return GrowingFile(path).entry()


def check_entry(path: Path, entry: Entry, fix: str = _RESTORE, *, exact: bool = True) -> GrowingFile:
    """Compare a file with its entry, and return it as read so far.

    Args:
        entry: Of it.
        fix: What to do where it differs: the end of the error.
        exact: Whether nothing may follow what the entry is of.

    Raises:
        RunError: It cannot be read, or is not what was written.
    """
    file = GrowingFile(path)
    with fitting(path):
        size: int = entry["bytes"]
        longer = exact and os.lstat(path).st_size != size
    if longer or file.entry(size) != entry:
        raise _damaged(path, fix)
    return file


def _damaged(path: Path, fix: str) -> RunError:
    return RunError(f"{path}: is damaged (checksum mismatch); {fix}")


# --- JSON files with a digest of their own --------------------------------------------------------------------


def write_checked(path: Path, content: dict[str, Any]) -> None:
    """Write an object as JSON with a digest of its entries; RunError where it cannot be written."""
    plain = json.loads(json.dumps(finite(content)))
    write_json(path, {**plain, _OWN: _digest(plain)})


def read_checked(path: Path, fix: str = _RESTORE) -> dict[str, Any]:
    """Return the object that `write_checked` wrote, without its digest.

    Raises:
        RunError: It cannot be read, is not what was written, or has a `format` of another version.
    """
    text = read_bytes(path)
    try:
        parsed = json.loads(text)
        content: dict[str, Any] = parsed if isinstance(parsed, dict) else {}
        digest, actual = content.pop(_OWN, None), _digest(content)
    except (ValueError, RecursionError):
        raise _damaged(path, fix) from None
    version = content.get("format", FORMAT)
    if digest is None or digest != actual:
        raise _damaged(path, fix)
    if version != FORMAT:
        writer = f"antiphon {str(content['antiphon'])[:20]}" if "antiphon" in content else "another antiphon"
        raise RunError(
            f"{path}: was written by {writer} (format {version}, here {FORMAT}); read it with that version, or run again"
        )
    return content


def read_cache(path: Path) -> dict[str, Any]:
    """Return the object of a file of results that can be computed again; an empty one where there is no file."""
    return read_checked(path, DELETE) if os.path.lexists(path) else {}


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


# --- checkpoints ----------------------------------------------------------------------------------------------


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run directory, oldest first.

    Raises:
        RunError: The folder that holds them is a link.
    """
    folder = run / "checkpoints"
    check_folder(folder)
    folders = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return sorted(filter(is_checkpoint, folders), key=lambda path: int(path.name.removeprefix("step-")))


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint, whole or damaged."""
    return any(os.path.lexists(folder / name) for name in (MANIFEST, "state.json"))


def write_manifest(folder: Path) -> None:
    """Write the manifest of the files in a folder; RunError where it cannot be written."""
    files = {path.name: entry_of(path) for path in sorted(folder.iterdir())}
    write_checked(folder / MANIFEST, {"format": FORMAT, "antiphon": VERSION, "files": files})


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Return the entries of the files in a checkpoint's folder, all of which are verified.

    Raises:
        RunError: The checkpoint is of another format, or missing or damaged (the message names another one that is not).
    """
    path, fix = folder / MANIFEST, _way_out(folder)
    if not is_checkpoint(folder):
        raise RunError(
            f"{folder}: contains no checkpoint; give a run directory, or a folder in its checkpoints/"
        )
    if not os.path.lexists(path):
        raise RunError(f"{path}: is missing; {fix}")
    manifest = read_checked(path, fix)
    with fitting(path):
        files: dict[str, Entry] = manifest["files"]
        for name, entry in files.items():
            if not os.path.lexists(folder / name):
                raise RunError(f"{folder / name}: is missing; {fix}")
            check_entry(folder / name, entry, fix)
    return files


def _way_out(folder: Path) -> str:
    """Return what can be done without a checkpoint."""
    if folder.parent.name == "checkpoints":
        remaining = [
            checkpoint.name
            for checkpoint in checkpoints(folder.parent.parent)
            if checkpoint.name != folder.name
        ]
        if remaining:
            return f"delete this checkpoint to continue from {remaining[-1]}"
    return "restore the checkpoint from a copy, or start the run again in another directory"
