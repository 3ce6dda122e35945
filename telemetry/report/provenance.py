"""Section of the runs' provenance: commands, versions, machines, files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from antiphon.telemetry.report.html import Html, element, section, table
from antiphon.telemetry.report.numbers import seconds
from antiphon.telemetry.report.run import ReportRun

__all__ = ["provenance"]

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
        "started": facts.get("started"),
        "finished": facts.get("finished"),
        "took": seconds(facts.get("seconds")),
        "exit": facts.get("exit"),
        "error": facts.get("error"),
        "warnings": _listed(facts.get("warnings")),
        **{f"SHA-256 of {name}": digest for name, digest in run.digests.items()},
    }
    return {name: str(value) for name, value in entries.items() if value not in (None, "")}


def _listed(value: Any) -> str | None:
    return "; ".join(map(str, value)) if isinstance(value, list) and value else None


def _pairs(facts: Mapping[str, str]) -> Html:
    parts = [part for name, value in facts.items() for part in (element("dt", name), element("dd", value))]
    return element("dl", *parts, class_="facts")
