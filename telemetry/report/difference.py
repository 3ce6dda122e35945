"""The section that says in what the scenarios of runs differ, and holds them whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from antiphon.telemetry.report.html import Html, element, section, table
from antiphon.telemetry.report.run import ReportRun

__all__ = ["difference", "flattened"]

_ROWS = 150
"""Paths in the table, at most."""
_COLUMNS = 6
"""Scenarios side by side, at most; of more only the first are compared."""
_LEAVES = 20_000
_DEEPEST = 60
"""Of a scenario that is compared; a document beyond that was not written by a run."""
_TEXT = 60_000
"""Characters of a scenario that is shown whole."""
_MISSING = "–"


def difference(runs: Sequence[ReportRun]) -> Html:
    """Return the table of differences, and each scenario's document folded up."""
    texts: dict[str, list[ReportRun]] = {}
    for run in runs:
        texts.setdefault(run.text, []).append(run)
    says = "What differs between the resolved scenarios, value by value; what is the same is left out."
    whole = [_document(text, own) for text, own in list(texts.items())[: 2 * _COLUMNS]]
    if len(texts) == 1:
        one = (
            "The resolved scenario."
            if len(runs) == 1
            else "All runs have the same scenario; seeds may differ."
        )
        return section("scenario", "Scenario", one, *whole)
    return section("scenario", "Scenarios", says, _compared(list(texts.values())), *whole)


def flattened(document: Mapping[str, Any]) -> dict[str, str]:
    """Return a document as paths with their values as text; parts of a list that have a name are found by it.

    Args:
        document: Plain data.

    Raises:
        ValueError: It is larger or deeper than a scenario can be.
    """
    found: dict[str, str] = {}
    for path, value in _leaves("", document, 0):
        found[path] = value
        if len(found) > _LEAVES:
            raise ValueError("too many values")
    return found


def _leaves(path: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), item, depth + 1)
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        seen: dict[str, int] = {}
        for place, item in enumerate(value):
            name = _name(item) or str(place)
            seen[name] = seen.get(name, 0) + 1
            again = f":{seen[name]}" if seen[name] > 1 else ""
            yield from _leaves(f"{path}[{name}{again}]", item, depth + 1)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _name(item: Any) -> str | None:
    """Return what tells a part of a list from the others wherever it stands: its name, or a channel's ends."""
    if not isinstance(item, Mapping):
        return None
    if "from" in item and "to" in item:
        return f"{item['from']}->{item['to']}"
    return str(item["name"]) if "name" in item else None


def _compared(groups: Sequence[Sequence[ReportRun]]) -> Html:
    """Return the table of what differs between the scenarios of groups of runs that share one."""
    shown, flat = groups[:_COLUMNS], []
    for group in shown:
        try:
            flat.append(flattened(group[0].document))
        except ValueError as error:
            text = f"The scenario of {group[0].name} is not compared: {error}."
            return element("p", text, class_="empty")
    unread = [group[0].name for group, values in zip(shown, flat, strict=True) if not values]
    paths = [
        path
        for path in dict.fromkeys(path for values in flat for path in values)
        if len({values.get(path) for values in flat}) > 1
    ]
    headings = ["path", *(_heading(group) for group in shown)]
    rows = [[path, *(values.get(path, _MISSING) for values in flat)] for path in paths[:_ROWS]]
    notes = []
    if unread:
        notes.append(f"Cannot be read: {', '.join(unread)}.")
    if len(paths) > _ROWS:
        notes.append(f"{len(paths) - _ROWS:,} more paths differ.")
    if len(groups) > _COLUMNS:
        notes.append(f"The first {_COLUMNS} of {len(groups)} scenarios are compared.")
    below = element("p", " ".join(notes), class_="says") if notes else None
    return element("div", table(headings, rows), below, class_="differences")


def _heading(group: Sequence[ReportRun]) -> str:
    others = len(group) - 1
    return group[0].name + (f" and {others} more" if others else "")


def _document(text: str, runs: Sequence[ReportRun]) -> Html:
    names = ", ".join(run.name for run in runs[:8]) + (", …" if len(runs) > 8 else "")
    shown = text[:_TEXT] + (f"\n… {len(text) - _TEXT:,} more characters" if len(text) > _TEXT else "")
    return element(
        "details",
        element("summary", f"scenario.yaml of {names}"),
        element("pre", shown or "There is no scenario.yaml, or it cannot be read."),
    )
