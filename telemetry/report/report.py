"""The whole report: its sections in order, and the live graph between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from antiphon.telemetry.channels.frontend import STATIC
from antiphon.telemetry.channels.page import MOST, page
from antiphon.telemetry.report.difference import difference
from antiphon.telemetry.report.html import Html, element, joined
from antiphon.telemetry.report.learning import learning
from antiphon.telemetry.report.picture import graph_picture
from antiphon.telemetry.report.provenance import provenance
from antiphon.telemetry.report.ranking import ranking
from antiphon.telemetry.report.representations import representations
from antiphon.telemetry.report.run import ReportRun, grouped
from antiphon.telemetry.report.style import STYLE
from antiphon.telemetry.report.summary import lede, over_seeds, summary
from antiphon.telemetry.report.timing import timing

__all__ = ["report"]

_STILL = 4
"""Graphs on paper, at most."""
_CHAPTERS = {
    "summary": "Summary",
    "seeds": "Over seeds",
    "graph": "Graph",
    "ranking": "Value and ablation",
    "curves": "Learning curves",
    "timing": "First steps",
    "representations": "Representations",
    "scenario": "Scenario",
    "provenance": "Provenance",
}


def report(
    runs: Sequence[ReportRun],
    *,
    made: str,
    most: int = MOST,
    static: Path = STATIC,
) -> str:
    """Return the page.

    Args:
        runs: At least one, with names that differ.
        made: Date and version of the report.
        most: Bytes of the page, at most; rows of the live graph are thinned for it.
        static: Folder of the front end.
    """
    groups = grouped(runs)
    title = f"Report on {', '.join(dict.fromkeys(run.scenario for run in runs))}"
    seeds = over_seeds(groups)
    above = [summary(runs), seeds, _graph(runs)]
    below = [
        ranking(runs),
        learning(groups),
        timing(runs),
        representations(groups),
        difference(runs),
        provenance(runs),
    ]
    chapters = [name for name in _CHAPTERS if name != "seeds" or seeds is not None]
    links = [element("li", element("a", _CHAPTERS[name], href=f"#{name}")) for name in chapters]
    header = element(
        "header",
        element("h1", title),
        element("p", lede(runs, groups), class_="lede"),
        _description(runs),
        element("nav", element("ul", *links)),
    )
    footer = element("footer", made)
    return page(
        [replace(run.data, name=run.name) for run in runs if run.data is not None],
        title=title,
        before=element("main", header, *above, class_="report"),
        after=element("div", *below, footer, class_="report"),
        style=STYLE,
        most=most,
        static=static,
    )


def _description(runs: Sequence[ReportRun]) -> Html | None:
    """Return the scenario's description, if there is a single scenario."""
    said = {
        run.document.get("description") for run in runs if isinstance(run.document.get("description"), str)
    }
    return (
        element("p", said.pop(), class_="says") if len({r.scenario for r in runs}) == len(said) == 1 else None
    )


def _graph(runs: Sequence[ReportRun]) -> Html:
    """Return the heading of the live graph, and its substitute in print."""
    without = [run.name for run in runs if run.data is None]
    shown = [run for run in runs if run.data is not None]
    if not shown:
        parts = [element("p", "No run holds data of the Channels tab.", class_="empty")]
    else:
        says = (
            "Agents and channels, step by step: drag the slider or press play, choose what colours the channels, click an "
            "agent or a channel for its curves, put a second run beside the first."
        )
        parts = [element("p", says, class_="says screen-only")]
        stills = [picture for run in shown[:_STILL] if (picture := graph_picture(run)) is not None]
        parts.append(element("div", *stills, class_="paper-only"))
    if shown and without:
        text = f"Not there, for want of data of the Channels tab: {', '.join(without)}."
        parts.append(element("p", text, class_="says"))
    return element("section", element("h2", "Graph"), joined(parts), id="graph")
