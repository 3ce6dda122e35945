"""The clock that all ways of training share: a file that all processes of a way map into their memory.

The time begins when the last of the processes has taken its first `WARM` steps. When it is over, the processes end at one
step: the newest that any of them has begun, as they wait for one another in it. The file is no part of the line.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WARM = 8
_SECONDS, _UNTIL, _OPEN = 0, 1, 2
"""In row 0: how long the training takes, the step at which it ends (0: not known yet), and whether steps count."""
_PROCESS, _STEPS, _BEGAN, _NEWEST, _BEGUN = range(5)
"""In the row of a process: its number, the steps it has taken, when it had taken `WARM`, when the newest, the steps begun."""


class Clock:
    """Steps and times of the processes of a way.

    Args:
        path: Of the file.
        processes: How many there are; None: the file is there already.
        seconds: Of training.
        measuring: Whether steps are taken before those of the training, up to `open`.
    """

    def __init__(
        self, path: str | Path, processes: int | None = None, seconds: float = 0.0, *, measuring: bool = False
    ) -> None:
        if processes is not None:
            Path(path).write_bytes(bytes(8 * 5 * (processes + 1)))
        self._page: NDArray[np.float64] = np.memmap(path, np.float64, "r+").reshape(-1, 5)
        self._file = os.open(path, os.O_RDWR)
        self._rows = self._page[1:]
        if processes is not None:
            self._page[0, _SECONDS], self._page[0, _OPEN] = seconds, not measuring

    def open(self) -> None:
        self._page[0, _OPEN] = 1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def step(self, taken: int) -> bool:
        """Note that this process has taken so many steps, and return whether it is to take another."""
        with self._locked():
            if not self._page[0, _OPEN]:  # the line is measured by processes of its own
                return True
            row = self._row()
            if taken < row[_STEPS]:  # of an environment that was made anew
                return True
            row[_STEPS], row[_NEWEST] = taken, time.monotonic()
            if taken >= WARM and not row[_BEGAN]:
                row[_BEGAN] = row[_NEWEST]
            if self.over and not self._page[0, _UNTIL]:
                self._page[0, _UNTIL] = self._rows[:, _BEGUN].max()
            until = self._page[0, _UNTIL]
            if until and taken >= until:
                return False
            row[_BEGUN] = taken + 1
            return True

    def _row(self) -> NDArray[np.float64]:
        """Return the row of this process, which is the first free one at first."""
        own = os.getpid()
        row: NDArray[np.float64] = next(row for row in self._rows if row[_PROCESS] in (0, own))
        row[_PROCESS] = own
        return row

    @property
    def began(self) -> float | None:
        """When all had taken `WARM` steps, `time.monotonic`; None: they have not."""
        return float(self._rows[:, _BEGAN].max()) if self._rows[:, _BEGAN].all() else None

    @property
    def over(self) -> bool:
        began = self.began
        return began is not None and time.monotonic() >= began + self._page[0, _SECONDS]

    @property
    def steps(self) -> int:
        """Steps that all processes have taken."""
        return int(self._rows[:, _STEPS].min())

    @property
    def seconds(self) -> float:
        """Seconds from the beginning to the newest step."""
        return float(self._rows[:, _NEWEST].max() - (self.began or 0.0))

    @property
    def processes(self) -> list[int]:
        """The numbers of the processes that have begun."""
        return [int(number) for number in self._rows[:, _PROCESS] if number]
