"""Section of differences between the runs' scenarios, with the whole documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from antiphon.telemetry.report.html import Html, element, section, table
from antiphon.telemetry.report.run import ReportRun

__all__ = ["difference", "differences"]

_ROWS = 150
"""Paths in a table, at most."""
_COLUMNS = 6
"""Scenarios side by side, and of each whole documents, at most."""
_LONGEST = 160
"""Characters of a value in the table."""
_TEXT = 60_000
"""Most characters of a document that is included whole."""
_MISSING = object()


def difference(runs: Sequence[ReportRun]) -> Html:
    """Return a table of differences for each scenario with several forms, and the documents, folded."""
    forms: dict[str, dict[str, list[ReportRun]]] = {}
    for run in runs:
        forms.setdefault(run.scenario, {}).setdefault(run.text, []).append(run)
    blocks = []
    for scenario, found in forms.items():
        if len(forms) > 1:
            blocks.append(element("h3", scenario))
        if len(found) > 1:
            blocks.append(_compared(list(found.values())))
        blocks += [_document(text, own) for text, own in list(found.items())[:_COLUMNS]]
        if len(found) > _COLUMNS:
            more = f"{len(found) - _COLUMNS} more forms of it are in the run directories alone."
            blocks.append(element("p", more, class_="says"))
    if any(len(found) > 1 for found in forms.values()):
        says = "What differs between runs of one scenario, value by value, all else being the same."
    elif len(runs) > 1:
        says = "Runs of one scenario have the same values here; they differ in their seeds alone."
    else:
        says = "The scenario with all its values."
    return section("scenario", "Scenario", says, *blocks)


def differences(documents: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the paths at which documents differ, each with the value of every document as text.

    Parts of a list that have a name (or a sender and a receiver) are matched by it, in any order. A part missing in one
    document is one path, not one for each of its values.

    Args:
        documents: Plain data.
    """
    return [
        (path, [_worded(value) for value in values]) for path, values in _differences("", list(documents))
    ]


def _differences(path: str, values: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    if all(value == values[0] for value in values[1:]):
        return
    parts = [_parts(value) for value in values]
    known = [found for found in parts if found is not None]
    if len(known) < len(values):
        yield path, values
        return
    for key in dict.fromkeys(key for found in known for key in found):
        yield from _differences(
            path + key if path else key.lstrip("."), [found.get(key, _MISSING) for found in known]
        )


def _parts(value: Any) -> dict[str, Any] | None:
    """Return the parts of a value by path segment; None where it has no identifiable parts."""
    if isinstance(value, Mapping):
        return {f".{key}": item for key, item in value.items()}
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value) or not value:
        return None
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for place, item in enumerate(value):
        name = str(place)
        if "from" in item and "to" in item:
            name = f"{item['from']}->{item['to']}"
        elif "name" in item:
            name = str(item["name"])
        repeat = counts[name] = counts.get(name, -1) + 1
        found[f"[{name}:{repeat}]" if repeat else f"[{name}]"] = item
    return found


def _worded(value: Any) -> str:
    if value is _MISSING:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _compared(forms: Sequence[Sequence[ReportRun]]) -> Html:
    """Return the table of differences between forms of a scenario, each with its runs."""
    shown = [form for form in forms if form[0].document][:_COLUMNS]
    found = differences([form[0].document for form in shown]) if shown else []
    headings = ["path", *(_heading(form) for form in shown)]
    rows = [[path, *values] for path, values in found[:_ROWS]]
    notes = []
    if unread := [form[0].name for form in forms if not form[0].document]:
        notes.append(f"Cannot be read: {', '.join(unread)}.")
    if len(found) > _ROWS:
        notes.append(f"{len(found) - _ROWS:,} more paths differ.")
    if len(forms) - len(unread) > _COLUMNS:
        notes.append(f"The first {_COLUMNS} of {len(forms)} forms are compared.")
    below = element("p", " ".join(notes), class_="says") if notes else None
    return element("div", table(headings, rows) if rows else None, below, class_="differences")


def _heading(runs: Sequence[ReportRun]) -> str:
    others = len(runs) - 1
    return runs[0].name + (f" and {others} more" if others else "")


def _document(text: str, runs: Sequence[ReportRun]) -> Html:
    names = ", ".join(run.name for run in runs[:8]) + (", …" if len(runs) > 8 else "")
    shown = text[:_TEXT] + (f"\n… {len(text) - _TEXT:,} more characters" if len(text) > _TEXT else "")
    return element(
        "details",
        element("summary", f"scenario.yaml of {names}"),
        element("pre", shown or "There is no scenario.yaml, or it cannot be read."),
    )
