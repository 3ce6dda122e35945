"""Progress of what takes long, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, ClassVar

from antiphon.base.errors import is_terminal, write_error
from antiphon.base.imports import import_rich

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_BAR_AFTER = 2.0
"""Seconds for which no bar is displayed."""
_REFRESH = 0.5
"""Seconds between two updates of a bar."""
_LINE_AFTER, _LINE_EVERY = 5.0, 60.0
"""Seconds to the first line, and at most to the next one: the time between lines doubles up to there."""
_enabled: ContextVar[bool] = ContextVar("enabled", default=True)
"""Whether anything is displayed (`hidden`), of each thread."""


class Progress(AbstractContextManager["Progress"]):
    """How much has been done: on a terminal a bar, unless one is displayed already; in files, pipes and notebooks lines.

    Nothing is displayed of what ends within seconds, in worker processes, within `hidden`, or with ANTIPHON_PROGRESS=0.

    Args:
        activity: What is done, in one word.
        total: How much there is to do; None: not known.
        done: How much has been done before.
        at_once: Whether a bar is displayed from the beginning.

    Attributes:
        total: How much there is to do; it may change.
    """

    displayed: ClassVar[bool] = False
    """Whether a bar of this process is on the terminal already."""

    def __init__(self, activity: str, total: int | None, done: float = 0, *, at_once: bool = False) -> None:
        self._activity, self.total, self.done = activity, total, done
        self._bar: Bar | None = None
        self._interval, self._lines = _LINE_AFTER, 0
        self._line_at = time.monotonic(), done
        """When the newest line was printed, and how much had been done then."""
        self._next = self._line_at[0] + (0.0 if at_once else _BAR_AFTER)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar; the next call of `advance` may display it again."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            Progress.displayed = False

    def advance(self, count: float = 1, about: Callable[[], str] | None = None) -> None:
        """Note that so much more has been done.

        Args:
            about: What else is displayed.
        """
        self.done += count
        now = time.monotonic()
        if now < self._next:
            return
        if not is_terminal(sys.stderr):
            if self.done == self.total:  # then there is nothing to wait for
                return
            self._next = self._line_at[0] + self._interval
            if now >= self._next and _shown():
                self._print(now, "" if about is None else about())
            return
        self._next = now + _REFRESH
        if self._bar is None and not Progress.displayed and _shown():
            self._open()
        if self._bar is not None:
            text = "" if about is None else about()
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self.done, total=self.total, description=text, refresh=True)

    def _open(self) -> None:
        import_rich()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn(self._activity),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
        )
        console = Console(stderr=True, highlight=False)
        self._bar = Bar(*columns, TimeRemainingColumn(), console=console, transient=True)
        self._bar.add_task("", total=self.total)
        self._bar.start()
        Progress.displayed = True

    def _print(self, now: float, about: str) -> None:
        """Print a line: `steps 1,200/5,000 · loss 0.312 · 14.2 steps/s · 4:28 left`; the first has no time left."""
        printed_at, before = self._line_at
        rate = (self.done - before) / (now - printed_at)
        total = "" if self.total is None else f"{self.total:,}"
        parts = [f"{self._activity} {int(self.done):>{len(total)},}" + (total and f"/{total}"), about]
        parts.append(f"{rate:.3g} {self._activity}/s" if self._activity == "steps" else "")
        if (
            self.total is not None and rate > 0 and self._lines
        ):  # the first line's rate holds loading and compiling
            minutes, seconds = divmod(round((self.total - self.done) / rate), 60)
            hours, minutes = divmod(minutes, 60)
            parts.append(f"{hours}:{minutes:02}:{seconds:02} left")
        write_error(" · ".join(filter(None, parts)))
        self._line_at, self._lines = (now, self.done), self._lines + 1
        self._interval = min(2 * self._interval, _LINE_EVERY)
        self._next = now + self._interval


@contextmanager
def hidden() -> Iterator[None]:
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def _shown() -> bool:
    is_enabled = _enabled.get() and os.environ.get("ANTIPHON_PROGRESS") != "0"
    return is_enabled and multiprocessing.parent_process() is None
