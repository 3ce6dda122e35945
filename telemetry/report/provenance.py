"""Sections of where the numbers come from: scenarios with their differences, and commands, versions, machines, files."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from antiphon.telemetry.report.html import Html, element, seconds, section, table
from antiphon.telemetry.report.run import ReportRun

__all__ = ["difference", "differences", "provenance"]

_COLUMNS = 4
"""Most runs as columns of the table of differences; more are listed as rows."""


def provenance(runs: Sequence[ReportRun]) -> Html:
    """Return the entries common to the runs, and then those of each."""
    facts = [_facts(run) for run in runs]
    names = list(dict.fromkeys(name for found in facts for name in found))
    common = [name for name in names if len({found.get(name) for found in facts}) == 1]
    own = [name for name in names if name not in common]
    parts = [element("h3", "All runs") if own else None, _pairs({name: facts[0][name] for name in common})]
    if own and len(runs) <= _COLUMNS:
        rows = [[name, *(found.get(name, "–") for found in facts)] for name in own]
        parts.append(element("h3", "Each run"))
        parts.append(table(["", *(run.name for run in runs)], rows))
    elif own:
        for run, found in zip(runs, facts, strict=True):
            head = element("summary", run.name)
            parts.append(element("details", head, _pairs({name: found.get(name, "–") for name in own})))
    says = "Where the numbers come from: enough to run it again and to tell that the files are the same."
    return section("provenance", "Provenance", says, *parts)


def _facts(run: ReportRun) -> dict[str, str]:
    """Return the provenance of a run, as text by heading."""
    facts = run.facts
    command, versions = facts.get("command"), facts.get("versions")
    entries: dict[str, Any] = {
        "directory": run.path,
        "command": shlex.join(map(str, command)) if isinstance(command, list) else None,
        "commit": facts.get("git"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items())
        if isinstance(versions, Mapping)
        else None,
        **{key: facts.get(key) for key in ("device", "dtype", "threads", "backend", "seed")},
        "seeds in one program": _listed(facts.get("together")),
        "weights": _weights(facts.get("weights")),
        "started": facts.get("started"),
        "finished": facts.get("finished"),
        "took": seconds(facts.get("seconds")),
        "exit": facts.get("exit"),
        "error": facts.get("error"),
        "warnings": _listed(facts.get("warnings")),
        **{f"SHA-256 of {name}": digest for name, digest in run.digests.items()},
    }
    return {name: str(value) for name, value in entries.items() if value not in (None, "")}


def _weights(taken: Any) -> str | None:
    """Return the agents of other runs whose weights a run has taken."""
    entries = [each for each in taken if isinstance(each, Mapping)] if isinstance(taken, list) else []
    listed = (
        f"{each.get('agent')} at step {each.get('step')}: those of {each.get('from')} (step {each.get('from_step')})"
        for each in entries
    )
    return "; ".join(listed) or None


def _listed(value: Any) -> str | None:
    return "; ".join(map(str, value)) if isinstance(value, list) and value else None


def _pairs(facts: Mapping[str, str]) -> Html:
    parts = [part for name, value in facts.items() for part in (element("dt", name), element("dd", value))]
    return element("dl", *parts, class_="facts")


_ROWS = 150
"""Paths in a table, at most."""
_OPEN = 10
"""Paths that are not folded."""
_FORMS = 6
"""Scenarios side by side, and of each whole documents, at most."""
_LONGEST = 160
"""Characters of a value in the table."""
_TEXT = 60_000
"""Most characters of a document that is included whole."""
_PLACES = 4
"""Most places of Python objects that are named."""
_MISSING = object()
_NAME = re.compile(r"\[[^\]]*\]")


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
        blocks += [_document(text, own) for text, own in list(found.items())[:_FORMS]]
        if len(found) > _FORMS:
            more = f"{len(found) - _FORMS} more forms of it are in the run directories alone."
            blocks.append(element("p", more, class_="says"))
    if any(len(found) > 1 for found in forms.values()):
        says = "What differs between runs of one scenario, value by value, all else being the same."
    elif len(runs) > 1 and (
        places := list(dict.fromkeys(place for run in runs for place in run.not_recorded))
    ):
        named = ", ".join(places[:_PLACES]) + (", …" if len(places) > _PLACES else "")
        says = (
            "Runs of one scenario have the same values here. Whether more than their seeds differs cannot be known: the "
            f"code of Python objects is not recorded ({named})."
        )
    elif len(runs) > 1:
        says = "Runs of one scenario have the same values here; they differ in their seeds alone."
    else:
        says = "The scenario with all its values."
    return section("scenario", "Scenario", says, *blocks)


def differences(documents: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the paths at which documents differ, each with the value of every document as text.

    Parts of a list that have a name (or a sender and a receiver) are matched by it, in any order. A part missing in one
    document is one path, not one for each of its values.
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
    chosen = [form for form in forms if form[0].document][:_FORMS]
    found = differences([form[0].document for form in chosen]) if chosen else []
    headings = ["path", *(_heading(form) for form in chosen)]
    rows = [[path, *values] for path, values in _gathered(found)]
    notes = []
    if unread := [form[0].name for form in forms if not form[0].document]:
        notes.append(f"Cannot be read: {', '.join(unread)}.")
    if len(rows) > _ROWS:
        notes.append(f"{len(rows) - _ROWS:,} more paths differ.")
    if len(forms) - len(unread) > _FORMS:
        notes.append(f"The first {_FORMS} of {len(forms)} forms are compared.")
    below = element("p", " ".join(notes), class_="says") if notes else None
    folded = rows[_OPEN:_ROWS]
    text = f"{len(folded)} more path{'s' * (len(folded) > 1)}"
    more = element("details", element("summary", text), table(headings, folded)) if folded else None
    return element("div", table(headings, rows[:_OPEN]) if rows else None, more, below, class_="differences")


def _gathered(found: Sequence[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Gather paths that differ in one name alone, with equal values, into the first of them; many at once come first."""
    by_shape: dict[tuple[str, ...], list[str]] = {}
    for path, values in found:
        by_shape.setdefault((_NAME.sub("[]", path), *values), []).append(path)
    gathered = sorted(by_shape.items(), key=lambda item: -len(item[1]))
    return [
        (paths[0] + (f" and {len(paths) - 1:,} more like it" if len(paths) > 1 else ""), values)
        for (_, *values), paths in gathered
    ]


def _heading(runs: Sequence[ReportRun]) -> str:
    others = len(runs) - 1
    return runs[0].name + (f" and {others} more" if others else "")


def _document(text: str, runs: Sequence[ReportRun]) -> Html:
    names = ", ".join(run.name for run in runs[:8]) + (", …" if len(runs) > 8 else "")
    excerpt = text[:_TEXT] + (f"\n… {len(text) - _TEXT:,} more characters" if len(text) > _TEXT else "")
    return element(
        "details",
        element("summary", f"scenario.yaml of {names}"),
        element("pre", excerpt or "There is no scenario.yaml, or it cannot be read."),
    )
