"""The table of a population that has been trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from antiphon.base.text_table import TextTable
from antiphon.jobs.populations.selection import in_words, quality
from antiphon.terminal.output import show_text_table, written


def print_members(result: Mapping[str, Any], out: Console) -> None:
    """Print a population's table: its members with their scores and values, the best first."""
    title, table = members_table(result)
    show_text_table(table, title=f"\n{title}", out=out)
    if result["to_come"]:
        out.print(Text(result["to_come"]))


def members_table(result: Mapping[str, Any]) -> tuple[str, TextTable]:
    """Return the title of a population's table, and the table."""
    metric, words = result["metric"] or "score", in_words(result["metric"])
    members = _best_first(result)
    names, rows, steps = list(members[0]["values"]), [], max(member["steps"] for member in members)
    any_copied = any(member["copied_from"] is not None for member in members)
    for member in members:
        is_complete = member["exit"] == "done" and member["steps"] == steps
        ended = "" if is_complete else f" ({member['exit']} after step {member['steps']:,})"
        values = [f"{member['values'][name]:.3g}" for name in names]
        parent = member["copied_from"]
        copied = "–" if parent is None else copied_from(parent, member["copied_at"])
        score = with_error(metric, member["score"], member["error"])
        rows.append([f"{member['member']}{ended}", *([copied] if any_copied else []), score, *values])
    title = f"{result['population']} · {len(members)} members · {steps:,} steps"
    headings = ["member", *(["copied from"] if any_copied else []), words, *names]
    return title, TextTable(headings, rows, 1 + any_copied)


def with_error(metric: str, score: float | None, error: float | None) -> str:
    """Return a score with its standard error, if that is known and not 0."""
    return written(metric, score) + (f" ± {written(metric, error)}" if error else "")


def copied_from(parent: int, step: int) -> str:
    """Return the member that a member last continued as a copy of, and when, for its cell of a table."""
    return f"{parent} at step {step:,}"


def _best_first(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(
        result["members"], key=lambda member: -quality(member["score"], result["metric"] or "score")
    )
