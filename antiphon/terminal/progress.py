"""Progress of a run on stderr: a bar over a live table on a terminal, else a plain line every tenth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import box
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from antiphon.engine.metrics.progress import Progress
from antiphon.terminal.output import METRICS, decimal, percent, remark, remarks, scored

if TYPE_CHECKING:
    from antiphon.engine.runs.observers import Scores

__all__ = ["ProgressDisplay"]

_SECONDS = 0.5
"""Seconds between two updates of the live table, and at least between two plain lines."""
_ROWS = 6
_TENTHS = 10


class ProgressDisplay:
    """Progress of a run to the step `until`, from the step `start`, on stderr; a context manager."""

    def __init__(self, until: int, start: int) -> None:
        self._until = until
        self._tenth = _TENTHS * start // max(until, 1)
        self._start_time: float | None = None
        self._updated = 0.0
        self._scores: Scores = {}
        self._live: Live | None = None
        screen = remarks()
        if screen.is_terminal:
            self._bar = Bar(
                BarColumn(bar_width=40),
                MofNCompleteColumn(),
                TextColumn("steps"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=screen,
            )
            self._task = self._bar.add_task("", total=until, completed=start)
            self._live = Live(self._bar, console=screen, transient=True, auto_refresh=False)

    def update(self, step: int, scores: Callable[[], Scores]) -> None:
        """Display a step, unless another was just displayed; `scores` returns the readouts' means since its last call."""
        now = time.monotonic()
        self._start_time = self._start_time or now
        last = step == self._until
        if now - self._updated < _SECONDS and not last:
            return
        if self._live is not None:
            self._updated = now
            self._scores |= scores()
            self._bar.update(self._task, completed=step)
            table = [_live_table(self._scores)] if self._scores else []
            self._live.update(Group(self._bar, *table), refresh=True)
        elif _TENTHS * step // self._until > self._tenth:
            self._updated, self._tenth = now, _TENTHS * step // self._until
            done = (
                f"{step:>{len(f'{self._until:,}')},}/{self._until:,} steps  {100 * step // self._until:3d} %"
            )
            remark(f"{done}{_line(scores())}  {now - self._start_time:.0f} s")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
            Progress.displayed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            Progress.displayed = False


def _live_table(scores: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False, header_style="bold")
    metrics = {metric for found in scores.values() for metric in METRICS if metric in found}
    for heading in ("readout", "loss", metrics.pop() if len(metrics) == 1 else "metric"):
        table.add_column(heading, justify="left" if heading == "readout" else "right")
    for name, found in list(scores.items())[:_ROWS]:
        table.add_row(name, decimal(found["loss"]), scored(found, named=bool(metrics)))
    return table


def _line(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Format the means over the readouts of their scores since the last line."""
    text = ""
    for metric in ("loss", *METRICS):
        values = [found[metric] for found in scores.values() if metric in found]
        if values:
            mean = sum(values) / len(values)
            text += f"  {metric} {percent(mean) if metric == 'accuracy' else decimal(mean)}"
    return text
