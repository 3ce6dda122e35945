"""Output of the commands: results as tables or as one line of JSON. Results go to stdout, the rest to stderr."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from antiphon.base.errors import is_terminal, with_count
from antiphon.base.files import display_path
from antiphon.base.table import Table, decimal, some
from antiphon.base.tools import by_key
from antiphon.telemetry.metrics import METRICS, SCORES

_WIDTH = 120
"""Characters of a line without a terminal."""


def console() -> Console:
    """Return the console for results: stdout."""
    return Console(highlight=False, width=None if is_terminal(sys.stdout) else _WIDTH)


def remarks() -> Console:
    """Return the console for progress and remarks: stderr."""
    return Console(stderr=True, highlight=False, width=None if is_terminal(sys.stderr) else _WIDTH)


def write_line(text: str, style: str = "") -> None:
    console().print(Text(text, style=style), soft_wrap=True)


def remark(text: str, style: str = "") -> None:
    """Print one line to stderr."""
    remarks().print(Text(text, style=style), soft_wrap=True)


@contextmanager
def second_signal(remedy: str) -> Iterator[None]:
    """Print a line where a second signal ends a run at once; the command line then ends with 130."""
    try:
        yield
    except KeyboardInterrupt:
        remark(f"stopped at once, without a checkpoint; {remedy}")
        raise SystemExit(130) from None


def print_json(value: Mapping[str, Any]) -> None:
    """Print an object as one line, the last of stdout."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


class Result(Protocol):
    """What a command prints: its text, or with `--json` its plain data."""

    @property
    def exit_code(self) -> int: ...
    def to_dict(self) -> Mapping[str, Any]: ...


def show(result: Result, json: bool) -> int:
    """Print a result as text, or as one line of JSON, and return the exit code."""
    if json:
        print_json(result.to_dict())
    else:
        print(result)
    return result.exit_code


def percent(value: float | None) -> str:
    """Format a fraction: 0.9639 is `96.39 %`."""
    return "–" if value is None else f"{100 * value:.2f} %"


def counted(value: float | None) -> str:
    """Format a number that may be a count, which has no decimals."""
    return f"{value:,.0f}" if value is not None and value == round(value) else decimal(value)


def show_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: int = 0,
    title: str = "",
    most: int | None = None,
    where: str = "--json",
) -> None:
    """Print a table.

    Args:
        right: Number of right-aligned columns, counted from the right.
        title: A line above it.
        most: How many rows are printed; None: all.
        where: Where all rows are, if there are more.
    """
    names = len(headings) - right
    show_result(Table(headings, list(rows), names, title, most=most, where=where))


def show_result(table: Table) -> None:
    """Print a table and an empty line."""
    out = console()
    out.print(table)
    out.print()


def show_measured(
    heads: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", most: int | None = None
) -> None:
    """Print a table of metrics without the columns in which nothing is measured; nothing where none is."""
    columns = [[head, *cells] for head, *cells in zip(heads, *rows, strict=True)]
    columns = [column for column in columns if set(column[1:]) != {"–"}]
    if len(columns) > 1:
        heads, *rows = zip(*columns, strict=True)
        show_table(heads, rows, right=len(heads) - 1, title=title, most=most, where="metrics.csv")


def episodes_in_words(episodes: Mapping[str, Any]) -> str:
    """Format the episodes of a return: `16 whole episodes of 341.2 steps, greedy, in 412 steps`."""
    count = episodes["count"]
    mean = episodes["length"]
    length = f"{mean:,.0f}" if mean == round(mean) else f"{mean:,.1f}"
    steps = "step" if length == "1" else "steps"
    words = f"{with_count(count, 'whole episode')} of {length} {steps}, {episodes['actions']}"
    return words + (f", in {duration:,} steps" if (duration := episodes.get("steps")) else "")


def updates_in_words(counts: Mapping[str, int]) -> str:
    """Format the optimiser steps of agents: `31 (eye, mind), 500 (ear)`."""
    agents = by_key((f"{count:,}", name) for name, count in counts.items())
    if len(agents) > 3:
        return f"{min(counts.values()):,} to {max(counts.values()):,}"
    return ", ".join(f"{count} ({some(names)})" for count, names in agents.items())


def how_to_look(directory: str | Path) -> None:
    """Print the command that opens TensorBoard."""
    write_line(f"TensorBoard  antiphon tb {shlex.quote(display_path(directory))}")


def scored(metrics: Mapping[str, Any], *, named: bool = False) -> str:
    """Format the metric of an agent's objective: `96.39 %`, or with its name, `bits 0.412`."""
    for metric in SCORES:
        if metric in metrics:
            word = f"{metric} " if named and metric != "accuracy" else ""
            return word + written(metric, metrics[metric])
    return "–"


def written(metric: str, value: float | None) -> str:
    """Format a metric by its name: an accuracy in percent, one of an environment as what may be a count."""
    if metric == "accuracy":
        return percent(value)
    return decimal(value) if metric in METRICS else counted(value)
