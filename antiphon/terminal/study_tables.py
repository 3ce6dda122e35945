"""The tables of a study that has run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from antiphon.jobs.studies.table import heading, notes, tables
from antiphon.terminal.output import show_text_table


def print_tables(result: Mapping[str, Any], out: Console) -> None:
    """Print the table of each metric of a study's result, and the notes under them."""
    title = heading(result)
    for table in tables(result):
        show_text_table(table, title=title, out=out)
        title = ""
    for line in notes(result):
        out.print(Text(line, style="dim"))
