"""Progress on stderr: a bar on a terminal, else a plain line every tenth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from antiphon.engine.metrics.progress import Progress
from antiphon.terminal.output import METRICS, decimal, percent, remark, remarks

if TYPE_CHECKING:
    from antiphon.engine.runs.observers import Scores

__all__ = ["ProgressDisplay"]

_SECONDS = 0.5
"""Seconds at least between two updates, but for the last."""
_TENTHS = 10


class ProgressDisplay:
    """Progress to a total, from `start` on; a context manager.

    Args:
        total: How much there is to do; a call of `update` may change it.
        start: How much has been done before.
        unit: What is counted.
    """

    def __init__(self, total: int, start: int = 0, unit: str = "steps") -> None:
        self._total, self._unit = total, unit
        self._tenth = _TENTHS * start // max(total, 1)
        self._start_time: float | None = None
        self._updated = 0.0
        self._bar: Bar | None = None
        if remarks().is_terminal:
            columns = (BarColumn(bar_width=40), MofNCompleteColumn(), TextColumn("{task.description}"))
            times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
            self._bar = Bar(*columns, *times, console=remarks(), transient=True, auto_refresh=False)
            self._task = self._bar.add_task(unit, total=total, completed=start)

    def update(self, done: int, scores: Callable[[], Scores] | None = None, total: int | None = None) -> None:
        """Display how much is done, unless it was displayed just now.

        Args:
            done: Of the total.
            scores: Returns the readouts' newest scores.
            total: In place of the one before.
        """
        now = time.monotonic()
        self._start_time = self._start_time or now
        self._total = total or self._total
        tenth = _TENTHS * done // self._total
        if now - self._updated < _SECONDS and done < self._total:
            return
        if self._bar is None and tenth <= self._tenth:
            return
        self._updated, self._tenth = now, tenth
        means = "" if scores is None else _means(scores())
        if self._bar is not None:
            line = f"{self._unit}{means}"
            self._bar.update(self._task, completed=done, total=self._total, description=line, refresh=True)
            return
        count = f"{done:>{len(f'{self._total:,}')},}/{self._total:,} {self._unit}"
        remark(f"{count}  {100 * done // self._total:3d} %{means}  {now - self._start_time:.0f} s")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            Progress.displayed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            Progress.displayed = False


def _means(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Format the means over the readouts of their scores."""
    text = ""
    for metric in ("loss", *METRICS):
        values = [found[metric] for found in scores.values() if metric in found]
        if values:
            mean = sum(values) / len(values)
            text += f"  {metric} {percent(mean) if metric == 'accuracy' else decimal(mean)}"
    return text
