"""Results, each of which is a table: as text, in Markdown."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as Columns
from rich.text import Text

_WIDTH = 120
"""Characters of a line without a terminal."""


def some(names: Iterable[str]) -> str:
    """Return the first names and the count: `n00, n01, … (28)`."""
    names = list(dict.fromkeys(names))
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, … ({len(names)})"


def decimal(value: float | None, digits: int = 3) -> str:
    """Format a number with some digits after the point; very small and very large ones with an exponent."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


@dataclass(frozen=True)
class Table:
    """Rows of text under headings.

    Attributes:
        names: How many columns on the left hold words; the others are aligned on the right. None: all.
        title: A line above it.
        notes: Lines below it.
        most: How many rows are shown, the first ones; None: all.
        where: Where all rows are.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int | None = None
    title: str = ""
    notes: Sequence[str] = ()
    most: int | None = None
    where: str = "--json"

    @property
    def _notes(self) -> list[str]:
        more = 0 if self.most is None else len(self.rows) - self.most
        return [*([f"… and {more:,} more; {self.where} has all"] if more > 0 else []), *self.notes]

    def __str__(self) -> str:
        columns = Columns(box=box.SIMPLE, show_edge=False, pad_edge=False)
        for index, heading in enumerate(self.headings):
            left = self.names is None or index < self.names
            columns.add_column(Text(heading), justify="left" if left else "right", overflow="fold")
        for row in self.rows[: self.most]:
            columns.add_row(*map(Text, row))
        text = io.StringIO()
        width = shutil.get_terminal_size((_WIDTH, 0)).columns
        shown = Console(file=text, width=width, highlight=False, force_terminal=False, force_jupyter=False)
        title = [f"{self.title}\n"] if self.title else []
        shown.print(*map(Text, title), columns, *(Text(f"\n{note}") for note in self._notes), sep="\n")
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def markdown(self) -> str:
        """Return the headings and rows as a table in Markdown."""
        names = len(self.headings) if self.names is None else self.names
        rules = ["---"] * names + ["---:"] * (len(self.headings) - names)
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.headings, rules, *self.rows))


class Result:
    """A result that is printed as its table."""

    def table(self) -> Table:
        raise NotImplementedError

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__
