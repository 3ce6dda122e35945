"""Section of the parts of a run in parts: what each computed, whom it waited for, what it sent, and which is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from antiphon.telemetry.channels.explanations import EXPLANATIONS
from antiphon.telemetry.parts.part_figures import PartFigures
from antiphon.telemetry.report.html import Html, element, number, section, size, table
from antiphon.telemetry.report.run import ReportRun

__all__ = ["parts"]

_ROWS = 64
"""Most parts of a run in its table."""
_NAMED = 4
"""Most parts named in a cell or a sentence."""
_MODES = {"lockstep": "in lockstep", "free": "asynchronous"}
_HEADINGS = (
    "part",
    "machine",
    "agents",
    EXPLANATIONS["part"]["steps_taken"].title,
    "computing s",
    "waiting s (for)",
    *(
        EXPLANATIONS["part"][metric].title
        for metric in (
            "bytes_sent",
            "bytes_received",
            "calls",
            "staleness",
            "blocked_on",
            "restarts",
            "heartbeat_age",
        )
    ),
)


def parts(runs: Sequence[ReportRun]) -> Html | None:
    """Return a table for each run in parts; None where there is none."""
    divided = [run for run in runs if run.parts]
    if not divided:
        return None
    blocks: list[Html] = []
    for run in divided:
        blocks += [element("h3", run.name)] if len(runs) > 1 else []
        blocks += _block(run)
    says = (
        "What each part computed, waited for and sent in the run's last session, by its newest row in parts.csv. Staleness: "
        f"{EXPLANATIONS['part']['staleness'].says[0].lower()}{EXPLANATIONS['part']['staleness'].says[1:]}"
    )
    return section("parts", "Parts", says, *blocks)


def _block(run: ReportRun) -> list[Html]:
    found = sorted(run.parts, key=lambda row: (row.alive, -row.waited, row.part))
    shown = sorted(found[:_ROWS], key=lambda row: row.part)
    counts = _agents(run)
    blocks = [element("p", _sentence(run))]
    if gone := [row for row in run.parts if not row.alive]:
        named = "; ".join(
            f"part {row.part}{f' ({row.machine})' if row.machine else ''}, last heartbeat {_age(row)}"
            for row in gone[:_NAMED]
        )
        more = f"; and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
        blocks.append(element("p", f"Gone: {named}{more}.", class_="caution"))
    rows = [_row(row, counts.get(row.part)) for row in shown]
    blocks.append(table(_HEADINGS, rows, numbers=range(2, len(_HEADINGS))))
    if len(shown) < len(found):
        text = (
            f"{len(shown)} of {len(found):,} parts: those that are gone, then those that waited the longest."
        )
        blocks.append(element("p", text, class_="says"))
    return blocks


def _row(row: PartFigures, agents: int | None) -> list[str]:
    return [
        str(row.part),
        row.machine or "–",
        "–" if agents is None else f"{agents:,}",
        f"{row.steps_taken:,}",
        number(row.computing),
        number(row.waited) + _waited_for(row.waiting),
        size(row.bytes_sent),
        size(row.bytes_received),
        f"{row.calls:,}",
        number(row.staleness),
        ", ".join(f"part {other}" for other in row.blocked_on) or "–",
        str(row.incarnation),
        _age(row) + ("" if row.alive else ", gone"),
    ]


def _waited_for(waiting: Mapping[int, float]) -> str:
    """Return the parts that one waited for, the longest first, each with its seconds where there are several."""
    longest = sorted(
        ((part, seconds) for part, seconds in waiting.items() if seconds > 0), key=lambda pair: -pair[1]
    )
    if len(longest) < 2:
        return f" (part {longest[0][0]})" if longest else ""
    named = ", ".join(f"part {part}: {number(seconds)}" for part, seconds in longest[:_NAMED])
    return f" ({named}{', …' if len(longest) > _NAMED else ''})"


def _age(row: PartFigures) -> str:
    return "now" if row.heartbeat_age < 1 and row.alive else f"{number(row.heartbeat_age)} s ago"


def _sentence(run: ReportRun) -> str:
    """Return how the run is divided: as run.json has it, with the cut channels of its graph."""
    facts = _facts(run)
    count = f"{len(run.parts):,} part{'s' * (len(run.parts) > 1)}"
    where = "on Ray" if facts.get("ray") else "in one process"
    if "virtual" in run.facts:
        where = "in virtual time: seconds are simulated"
    sentence = ", ".join(filter(None, (count, _MODES.get(str(facts.get("mode", ""))), where)))
    placement = _placement(run)
    if run.data is not None and placement:
        agents = [agent["name"] for agent in run.data.graph["agents"]]
        ends = [(agents[channel["from"]], agents[channel["to"]]) for channel in run.data.graph["channels"]]
        cut = sum(placement.get(sender) != placement.get(receiver) for sender, receiver in ends)
        sentence += f"; {cut:,} of {len(ends):,} channels {'is' if cut == 1 else 'are'} cut"
    return f"{sentence}."


def _facts(run: ReportRun) -> Mapping[str, Any]:
    found = run.facts.get("parts")
    return found if isinstance(found, Mapping) else {}


def _placement(run: ReportRun) -> dict[str, int]:
    """Return the part of each agent; empty where run.json has none."""
    found = _facts(run).get("placement")
    if not isinstance(found, Mapping):
        return {}
    return {str(name): part for name, part in found.items() if isinstance(part, int)}


def _agents(run: ReportRun) -> dict[int, int]:
    """Return the number of agents by part."""
    found: dict[int, int] = {}
    for part in _placement(run).values():
        found[part] = found.get(part, 0) + 1
    return found
