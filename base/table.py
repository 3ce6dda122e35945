"""A result as a table: on a terminal, in a notebook, in Markdown."""

from __future__ import annotations

import html
import io
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from antiphon.base.imports import import_rich

_WIDTH = 120
"""Characters of a line without a terminal."""


def some(names: Iterable[str]) -> str:
    """Return the first names and the count: `n00, n01, … (28)`."""
    names = list(dict.fromkeys(names))
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, … ({len(names)})"


@dataclass(frozen=True)
class Table:
    """Rows of text under headings.

    Attributes:
        names: How many columns on the left hold words; the others are aligned on the right. None: all.
        title: A line above it.
        notes: Lines below it.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int | None = None
    title: str = ""
    notes: Sequence[str] = ()

    def __rich__(self) -> Any:
        import_rich()
        from rich import box
        from rich.console import Group
        from rich.table import Table as Columns
        from rich.text import Text

        columns = Columns(box=box.SIMPLE, show_edge=False, pad_edge=False, header_style="bold")
        for index, heading in enumerate(self.headings):
            left = self.names is None or index < self.names
            columns.add_column(Text(heading), justify="left" if left else "right", overflow="fold")
        for row in self.rows:
            columns.add_row(*map(Text, row))
        title = [Text(f"{self.title}\n", style="bold")] if self.title else []
        return Group(*title, columns, *(Text(f"\n{note}", style="dim") for note in self.notes))

    def __str__(self) -> str:
        import_rich()
        from rich.console import Console

        text = io.StringIO()
        width = shutil.get_terminal_size((_WIDTH, 0)).columns
        Console(file=text, width=width, highlight=False, force_terminal=False, force_jupyter=False).print(
            self
        )
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f"<table>{caption}{row(self.headings, 'th')}{body}</table>{notes}"

    def markdown(self) -> str:
        """Return the headings and rows as a table in Markdown."""
        names = len(self.headings) if self.names is None else self.names
        rules = ["---"] * names + ["---:"] * (len(self.headings) - names)
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.headings, rules, *self.rows))
