"""Progress of what takes long, on standard error: a bar on a terminal, elsewhere a line a minute."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from antiphon.base.errors import is_terminal, write_error

_BAR_AFTER = 2.0
"""Seconds for which no bar is displayed."""
_REFRESH = 0.5
"""Seconds between two updates of a bar."""
_LINE_EVERY = 60.0


class Progress(AbstractContextManager["Progress"]):
    """How much has been done of a `total`, if known: on a terminal a bar, elsewhere a line a minute; nothing with ANTIPHON_PROGRESS=0."""

    def __init__(self, activity: str, total: int | None, done: float = 0) -> None:
        self._activity, self.total, self.done = activity, total, done
        self._bar: Bar | None = None
        self._next = time.monotonic() + (_BAR_AFTER if is_terminal() else _LINE_EVERY)
        self._silent = os.environ.get("ANTIPHON_PROGRESS") == "0"

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar; the next call of `advance` may display it again."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, count: float = 1, about: Callable[[], str] | None = None) -> None:
        """Note that so much more has been done; `about` returns what else is displayed."""
        self.done += count
        now, on_terminal = time.monotonic(), is_terminal()
        if now < self._next or self._silent:
            return
        self._next = now + (_REFRESH if on_terminal else _LINE_EVERY)
        text = "" if about is None else about()
        if not on_terminal:
            total = "" if self.total is None else f"/{self.total:,}"
            write_error(" · ".join(filter(None, [f"{self._activity} {int(self.done):,}{total}", text])))
            return
        if self._bar is None:
            columns = TextColumn(self._activity), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            described = TextColumn("{task.description}")
            self._bar = Bar(*columns, described, console=Console(stderr=True), transient=True)
            self._bar.add_task("", total=self.total)
            self._bar.start()
        self._bar.update(
            self._bar.task_ids[0],
            completed=self.done,
            total=self.total,
            description=text,
            refresh=True,
        )
