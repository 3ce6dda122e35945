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
_LINE_EVERY = 60.0
_enabled: ContextVar[bool] = ContextVar("enabled", default=True)
"""Whether anything is displayed (`hidden`), of each thread."""


class Progress(AbstractContextManager["Progress"]):
    """How much has been done: on a terminal a bar, unless one is displayed already; elsewhere a line a minute.

    Nothing is displayed in worker processes, within `hidden`, or with ANTIPHON_PROGRESS=0.

    Args:
        activity: What is done, in one word.
        total: How much there is to do, which may change; None: not known.
        done: How much has been done before.
    """

    displayed: ClassVar[bool] = False
    """Whether a bar of this process is on the terminal already."""

    def __init__(self, activity: str, total: int | None, done: float = 0) -> None:
        self._activity, self.total, self.done = activity, total, done
        self._bar: Bar | None = None
        self._next = time.monotonic() + (_BAR_AFTER if is_terminal(sys.stderr) else _LINE_EVERY)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar; the next call of `advance` may display it again."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            Progress.displayed = False

    def advance(self, count: float = 1, about: Callable[[], str] | None = None) -> None:
        """Note that so much more has been done; `about` returns what else is displayed."""
        self.done += count
        now = time.monotonic()
        if now < self._next or not _shown():
            return
        text = "" if about is None else about()
        if not is_terminal(sys.stderr):
            self._next = now + _LINE_EVERY
            total = "" if self.total is None else f"/{self.total:,}"
            write_error(" · ".join(filter(None, [f"{self._activity} {int(self.done):,}{total}", text])))
            return
        self._next = now + _REFRESH
        if self._bar is None and not Progress.displayed:
            self._open()
        if self._bar is not None:
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
