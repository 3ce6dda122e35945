"""What of a Ray cluster is in this machine's table of processes, and where it listens (Linux); runs on Ray to look at."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

needs_ray = [
    pytest.mark.ray,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]
"""The `pytestmark` of tests that start processes of Ray."""


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


def named(process: int) -> str:
    """Return the command line of a process; empty: it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def parts_of(process: int) -> list[int]:
    """Return the processes of parts that descend from one."""
    return sorted(child for child in children_of(process) if named(child).startswith("ray::PartWorker"))


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


PATIENCE = 1200.0
"""Seconds that a test waits for processes: nothing may fail because other programs keep the machine busy."""
PROGRAM = f"""
import sys
from antiphon.cli import main
from antiphon.engine.ray import ray_parts
ray_parts._STARTED_WITHIN = {PATIENCE}
sys.exit(main())
"""
"""The command line, with this patience."""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1 as /proc/net/tcp has it, the same within IPv6, and ::1."""


def started(scenario: Path, folder: Path, temporary: Path) -> subprocess.Popen[str]:
    """Start a run in two parts in the directory `run` of a folder; temporary files go to another one, whose name is short."""
    words = f"run {scenario} --parts 2 --ray --name run --logdir {folder}".split()
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def wait_for_rows(folder: Path, count: int, run: subprocess.Popen[str]) -> None:
    """Wait until a run that was `started` has written so many lines of parts.csv."""
    file, end = folder / "run" / "parts.csv", time.monotonic() + PATIENCE
    while not file.exists() or file.read_text().count("\n") <= count:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end, "it does not start"
        time.sleep(0.05)
