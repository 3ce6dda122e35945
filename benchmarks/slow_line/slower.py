"""Machines with a share of a core each, so that more of them than there are cores compute at the same time.

The processes of a machine together have their share of every 20 ms (CFS bandwidth, cgroups of version 1), ahead of those of
others on the computer.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_CPU, _PERIOD, _WEIGHT = Path("/sys/fs/cgroup/cpu"), 20_000, 102_400
"""The controller, microseconds, and the weight, of which any other process has 1,024."""


class ShareOfCore:
    """A share of a core, for the processes that join and those that they start.

    Args:
        name: Of the group.

    Raises:
        OSError: There is no such controller, or this is not root.
    """

    def __init__(self, name: str) -> None:
        self._group = _CPU / name
        self._group.mkdir()
        self._write("cpu.cfs_period_us", _PERIOD)
        self._write("cpu.shares", _WEIGHT)

    def _write(self, name: str, value: int) -> None:
        (self._group / name).write_text(str(value), encoding="ascii")

    def join(self) -> None:
        """Put this process into the group."""
        self._write("cgroup.procs", os.getpid())

    def limit(self, share: float | None) -> None:
        """Let the processes have no more than a share of a core; None: as much as they can."""
        self._write("cpu.cfs_quota_us", -1 if share is None else round(share * _PERIOD))

    def close(self) -> None:
        """Remove the group, when its killed processes are gone."""
        for _ in range(100):
            with suppress(OSError):
                self._group.rmdir()
                return
            time.sleep(0.05)
