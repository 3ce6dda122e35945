"""Commands in forked processes that are killed, and what their run directories hold, to be compared."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.kit.commands import run_command
from tests.kit.recorded import metrics
from tests.kit.written_events import raw_rows, read_rows

_OF_TIME = {"started", "finished", "seconds", "command", "run_dir"}
"""Of run.json and result.json: what depends on the clock."""


_OPERATIONS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "ftruncate")
"""Functions of `os` that change what is on the disk."""


def ended(
    folder: Path,
    words: Sequence[str],
    seconds: float | None = None,
    operation: int | None = None,
) -> int | None:
    """Run a command in a folder, in a process forked off; return its exit code.

    None: it was killed, for it had not ended after so many seconds, or began the operation of this number on files. Without either, `operations.txt` has how many there are.
    """
    process = os.fork()
    if process == 0:
        _carry_out(folder, words, operation)
    if seconds is not None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(min(left, 0.001))
        os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return None if code == -signal.SIGKILL else code


def _carry_out(folder: Path, words: Sequence[str], operation: int | None) -> None:
    """Run a command in this process, which has no other purpose, and end it."""
    code, count = 99, itertools.count(1)
    for name in _OPERATIONS:
        setattr(os, name, _counted(getattr(os, name), count, operation))
    try:
        os.chdir(folder)
        log = open("output.txt", "a", buffering=1, encoding="utf-8")  # noqa: SIM115 (until the process ends)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout = sys.stderr = log  # those of pytest lead elsewhere
        code = run_command(words)
        (folder / "operations.txt").write_text(str(next(count) - 1), encoding="utf-8")
    finally:
        os._exit(code)


def _counted(function: Callable[..., Any], count: Iterator[int], last: int | None) -> Callable[..., Any]:
    """Return a function that kills the process before it does its work, where it is the call of this number of all."""

    def counted(*given: Any, **more: Any) -> Any:
        if next(count) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **more)

    return counted


def contents(root: Path) -> dict[str, Any]:
    """Return what a log directory holds, by file, or for event files by folder.

    What depends on the clock is left out, and so is what a killed process leaves: the files of locks, and half of the last write
    of a run whose end is known already, which goes with its checkpoint.
    """
    found: dict[str, Any] = {}
    left = "run.lock", ".sizes.json."
    for path in sorted(path for path in root.rglob("*") if not path.name.startswith(left)):
        name = str(path.relative_to(root))
        if path.is_dir():
            found[name] = "folder"
        elif path.name.startswith("events.out.tfevents."):
            folder = f"{path.parent.relative_to(root)}/events"
            if folder not in found:
                found[folder] = {"raw": raw_rows(path.parent), "read": read_rows(path.parent)}
        else:
            found[name] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.name == "metrics.csv":
        return metrics(path.parent)
    if path.name == "parts.csv":
        return [row.split(",")[:4] for row in path.read_text(encoding="utf-8").splitlines()]
    if path.name in ("run.json", "result.json", "seeds.json"):
        return _timeless(json.loads(path.read_text(encoding="utf-8")))
    if path.name in ("sizes.json", "study.json", "table.csv", "table.md") or path.suffix in (".svg", ".png"):
        return "written"  # with seconds, and dates
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in _OF_TIME}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
