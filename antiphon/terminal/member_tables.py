"""The table of a population that has been trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antiphon.base.table import Table
from antiphon.jobs.populations.selection import in_words, quality
from antiphon.terminal.output import written


def members_table(result: Mapping[str, Any]) -> Table:
    """Return a population's table: its members with their scores and values, the best first."""
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
    return Table(headings, rows, 1 + any_copied, title)


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
