"""A process that outlives the one that started a Ray cluster, ends what is left of it, and removes its folder.

Started as a script, with the cluster's folder; it waits for the end of its standard input, which comes with the end of
the process that holds the other end, whatever ended it. Two of Ray's own processes would else be there for another minute.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_WITHIN = 10.0
"""Seconds in which Ray's processes are looked for."""


def processes_of(folder: str, excluded: int) -> list[int]:
    """Return Ray's processes that have files open in a cluster's folder, but for one (Linux; elsewhere none are found).

    Neither their names nor their environments, which they overwrite, say which cluster they are of.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) == excluded or b"ray" not in (process / "cmdline").read_bytes():
                continue
            files = [os.readlink(file) for file in (process / "fd").iterdir()]
        except OSError:  # it has ended, or is another user's
            continue
        if any(file.startswith(folder + os.sep) for file in files):
            found.append(int(process.name))
    return found


def main(folder: str) -> None:
    """Wait for the end of standard input, then end the cluster's processes and remove its folder."""
    starter = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.read()
    end = time.monotonic() + _WITHIN
    while (left := processes_of(folder, starter)) and time.monotonic() < end:
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
