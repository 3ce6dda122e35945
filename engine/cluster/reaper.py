"""A process that outlives the one that started a Ray cluster, ends what is left of it, and removes its folder.

Started as a script, with the cluster's node and folder; it waits for the end of its standard input, which comes with the end of
the process that holds the other end, whatever ended it. Two of Ray's own processes would else be there for another minute.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

_WITHIN = 10.0
"""Seconds in which Ray's processes are looked for."""


def processes_of(node: str) -> list[int]:
    """Return the processes that Ray started for a node of this machine (Linux; elsewhere none are found)."""
    wanted = f"RAY_NODE_ID={node}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


def main(node: str, folder: str) -> None:
    """Wait for the end of standard input, then end the node's processes and remove the folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.read()
    end = time.monotonic() + _WITHIN
    while (left := processes_of(node)) and time.monotonic() < end:
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
