"""What of a Ray cluster is in this machine's table of processes, and where it listens (Linux)."""

from __future__ import annotations

import os
import time
from pathlib import Path


def children_of(process: int) -> set[int]:
    """Return the processes that descend from one."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    found, newest = set(), {process}
    while newest:
        newest = {child for child, parent in parents.items() if parent in newest}
        found |= newest
    return found


def is_alive(process: int) -> bool:
    """Return whether a process is there, and more than an entry that its parent has not read."""
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def survivors(processes: set[int], seconds: float) -> set[int]:
    """Return those that are still there after some seconds; sooner where there is none."""
    end = time.monotonic() + seconds
    while (left := set(filter(is_alive, processes))) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def listening(processes: set[int]) -> dict[str, int]:
    """Return the addresses at which processes listen, as hexadecimal digits, and how many ports at each."""
    sockets = set()
    for process in processes:
        try:
            for entry in os.scandir(f"/proc/{process}/fd"):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    sockets.add(target[8:-1])
        except OSError:
            continue
    found: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                address = fields[1].rpartition(":")[0]
                found[address] = found.get(address, 0) + 1
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1 as /proc/net/tcp has it, the same within IPv6, and ::1."""
