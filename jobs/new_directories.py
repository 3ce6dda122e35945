"""Directories of new runs, studies and populations."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from antiphon.base.errors import RunError
from antiphon.running.directory import LOGDIR, numbered

_DIRECTORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def logdir_root(logdir: Path | None) -> Path:
    """Return the parent of run directories: `--logdir`, else $ANTIPHON_LOGDIR, else `runs`."""
    return Path(os.path.expanduser(logdir or os.environ.get("ANTIPHON_LOGDIR") or LOGDIR))


def new_directory(logdir: Path | None, name: str | None, stem: str) -> Path:
    """Return the directory of a new run: that of `name`, or `stem` with the time; it must not exist.

    Raises:
        RunError: The name is no valid directory name in the log directory.
    """
    root = logdir_root(logdir)
    if name is not None:
        if not _DIRECTORY.fullmatch(name):
            mend = "use letters, digits, '-', '_' and '.'; logdir sets the parent directory"
            raise RunError(f"name: '{name}' cannot name a run directory; {mend}")
        return root / name
    path = root / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(candidate for candidate in numbered(path) if not candidate.exists())
