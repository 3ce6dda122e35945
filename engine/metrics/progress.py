"""Progress of what takes long: a bar on standard error."""

from __future__ import annotations

import multiprocessing
import sys
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["Progress"]

_AFTER = 2.0
"""Seconds for which nothing is displayed."""


class Progress(AbstractContextManager["Progress"]):
    """A bar on standard error once something has taken long, if that is a terminal on which no other is displayed.

    Args:
        what: Done, in one word.
        total: How much there is to do; None: not known.
    """

    displayed: ClassVar[bool] = False
    """Whether something of this process is on the terminal already."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total = what, total
        self._done = 0
        self._bar: Bar | None = None
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar; a second call does nothing."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            Progress.displayed = False

    def advance(self, count: int = 1) -> None:
        """Note that so much more has been done."""
        if self._bar is None and time.monotonic() - self._start > _AFTER:
            self.display()
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)
        self._done += count

    def display(self) -> None:
        """Display the bar now, if there is a terminal for it."""
        if Progress.displayed or not sys.stderr.isatty() or multiprocessing.parent_process() is not None:
            self._start = time.monotonic()  # there may be one later
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn(self._what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._bar.add_task(self._what, total=self._total, completed=self._done)
        self._bar.start()
        Progress.displayed = True
