"""The whole report: its sections in order, between them the live graph, and for print a picture of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from antiphon.telemetry.channels.explanations import EXPLANATIONS
from antiphon.telemetry.channels.page import MOST, page
from antiphon.telemetry.report.chart import words
from antiphon.telemetry.report.html import Html, drawing, element, figure, joined, number
from antiphon.telemetry.report.learning import learning
from antiphon.telemetry.report.parts import parts
from antiphon.telemetry.report.provenance import difference, provenance
from antiphon.telemetry.report.ranking import ablation_of, ranking, value_of
from antiphon.telemetry.report.representations import representations
from antiphon.telemetry.report.run import ReportRun, grouped
from antiphon.telemetry.report.style import STYLE
from antiphon.telemetry.report.summary import lede, over_seeds, summary
from antiphon.telemetry.report.timing import timing

__all__ = ["graph_picture", "report"]

_PRINTED = 4
"""Graphs on paper, at most."""
_CHAPTERS = {
    "summary": "Summary",
    "seeds": "Over seeds",
    "graph": "Graph",
    "ranking": "Value and ablation",
    "curves": "Learning curves",
    "timing": "First steps",
    "parts": "Parts",
    "representations": "Representations",
    "scenario": "Scenario",
    "provenance": "Provenance",
}


def report(
    runs: Sequence[ReportRun],
    *,
    made: str,
    most: int = MOST,
) -> str:
    """Return the page.

    Runs have names that differ; `made` is the report's date and version; rows of the live graph are thinned so that the page
    takes at most `most` bytes.
    """
    groups = grouped(runs)
    title = f"Report on {', '.join(dict.fromkeys(run.scenario for run in runs))}"
    seeds = over_seeds(groups)
    divided = parts(runs)
    above = [summary(runs), seeds, _graph(runs)]
    below = [
        ranking(runs),
        learning(groups),
        timing(runs),
        divided,
        representations(groups),
        difference(runs),
        provenance(runs),
    ]
    left_out = {name for name, found in (("seeds", seeds), ("parts", divided)) if found is None}
    chapters = [name for name in _CHAPTERS if name not in left_out]
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
    )


def _description(runs: Sequence[ReportRun]) -> Html | None:
    """Return the scenario's description, if there is a single scenario."""
    found = {
        run.document.get("description") for run in runs if isinstance(run.document.get("description"), str)
    }
    return (
        element("p", found.pop(), class_="says")
        if len({r.scenario for r in runs}) == len(found) == 1
        else None
    )


def _graph(runs: Sequence[ReportRun]) -> Html:
    """Return the heading of the live graph, and its substitute in print."""
    without = [run.name for run in runs if run.data is None]
    pictured = [run for run in runs if run.data is not None]
    if not pictured:
        blocks = [element("p", "No run holds data of the Channels tab.", class_="empty")]
    else:
        says = (
            "Agents and channels, step by step: drag the slider or press play, choose what colours the channels, click an "
            "agent or a channel for its curves, put a second run beside the first."
        )
        blocks = [element("p", says, class_="says screen-only")]
        stills = [picture for run in pictured[:_PRINTED] if (picture := graph_picture(run)) is not None]
        blocks.append(element("div", *stills, class_="paper-only"))
    if pictured and without:
        text = f"Not there, for want of data of the Channels tab: {', '.join(without)}."
        blocks.append(element("p", text, class_="says"))
    return element("section", element("h2", "Graph"), joined(blocks), id="graph")


_MOST = 200
"""Most agents of a legible picture."""
_NAMED = 40
"""Most agents with labels."""
_SHADES = 6
_PARTS = 10
"""Colours of parts, those of labels; further parts repeat them."""
_WIDTH, _HEIGHT, _PAD = 720, 440, 40
_FIGURES = ("sg_loss", "message_energy", "age")
"""Metrics for the colours of edges without measurements, in order of preference."""


def graph_picture(run: ReportRun) -> Html | None:
    """Return the picture of a run's graph; None where there is none, or it is too large to be read."""
    if run.data is None or len(run.data.graph["agents"]) > _MOST:
        return None
    graph = run.data.graph
    title, values = _figure(run)
    finite = [value for value in values.values() if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    places = [_place(agent) for agent in graph["agents"]]
    radius = min(12.0, 90 / math.sqrt(max(len(places), 1)) + 2)
    shapes: list[Html] = []
    counts: dict[tuple[int, int], int] = {}
    for channel in graph["channels"]:
        ends = channel["from"], channel["to"]
        parallel = counts[ends] = counts.get(ends, 0) + 1
        shade = _shade(values.get(channel["name"], math.nan), low, high)
        cut = len({graph["agents"][end].get("part") for end in ends}) > 1
        kind = f"edge {shade}" + (" cut" if cut else "")
        shapes.append(
            _edge(places[ends[0]], places[ends[1]], ends[0] == ends[1], parallel, radius, kind, channel)
        )
    for agent, place in zip(graph["agents"], places, strict=True):
        shapes += _node(agent, place, radius, named=len(places) <= _NAMED)
    top = min((y for _, y in places), default=0.0) - 2 * _PAD
    bottom = max((y for _, y in places), default=0.0) + 2 * _PAD
    picture = drawing(shapes, f"The graph of {run.name}", (0, top, _WIDTH, bottom - top), kind="chart still")
    says = "Squares: readouts. Dashed: a delay."
    if graph.get("parts"):
        says += " Colour of an agent's rim: its part. Two bars: a channel between parts."
    if finite:
        says = f"Colour of channels: {title}, from {number(low)} (pale) to {number(high)} (dark). {says}"
    return figure(picture, f"Graph of {run.name}", says)


def _figure(run: ReportRun) -> tuple[str, Mapping[str, float]]:
    """Return the metric of the channels' colours, and its values: measured ones first, then logged ones."""
    for metric, found in (("ablation", ablation_of(run)), ("value", value_of(run))):
        if found is not None:
            values = {bar.name: bar.value for bar in found.bars if bar.value is not None}
            return EXPLANATIONS["channel"][metric].title, values
    assert run.data is not None
    names = [channel["name"] for channel in run.data.graph["channels"]]
    for metric in _FIGURES:
        series = run.data.figures.get(("channel", metric))
        if series is not None and len(series.steps) and series.values.shape[1] == len(names):
            newest = dict(zip(names, series.values[-1].tolist(), strict=True))
            return f"{EXPLANATIONS['channel'][metric].title} at step {int(series.steps[-1]):,}", newest
    return "", {}


def _place(agent: Mapping[str, Any]) -> tuple[float, float]:
    x, y = (_unit(agent.get(side)) for side in ("x", "y"))
    return _PAD + x * (_WIDTH - 2 * _PAD), _PAD + (1 - y) * (_HEIGHT - 2 * _PAD)


def _unit(value: Any) -> float:
    return (
        min(max(float(value), 0.0), 1.0) if isinstance(value, int | float) and math.isfinite(value) else 0.5
    )


def _shade(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "none"
    return f"s{round((_SHADES - 1) * (value - low) / (high - low)) if high > low else _SHADES - 1}"


def _edge(
    start: tuple[float, float],
    end: tuple[float, float],
    own: bool,
    parallel: int,
    radius: float,
    kind: str,
    channel: Mapping[str, Any],
) -> Html:
    """Draw a channel: bent to its left, so that there and back are two lines; to itself as a loop."""
    (x0, y0), (x1, y1) = start, end
    bars: Html | None = None
    if own:
        side = radius + 7 * parallel
        path = (
            f"M{x0 - 4:.1f} {y0 - radius:.1f}c{-side:.1f} {-2 * side:.1f} {side + 8:.1f} {-2 * side:.1f} 8 0"
        )
    else:
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        bend = (0.12 * length + 3) * parallel
        mx, my = (x0 + x1) / 2 + uy * bend, (y0 + y1) / 2 - ux * bend
        tx, ty = x1 - mx, y1 - my
        reach = math.hypot(tx, ty) or 1.0
        tx, ty = tx / reach, ty / reach
        px, py = x1 - tx * (radius + 2), y1 - ty * (radius + 2)
        path = f"M{x0:.1f} {y0:.1f}Q{mx:.1f} {my:.1f} {px:.1f} {py:.1f}"
        for turn in (0.45, -0.45):
            cos, sin = math.cos(turn), math.sin(turn)
            ax, ay = -(tx * cos - ty * sin) * 6, -(tx * sin + ty * cos) * 6
            path += f"M{px:.1f} {py:.1f}l{ax:.1f} {ay:.1f}"
        if kind.endswith(" cut"):
            bars = _bars(x0 / 4 + mx / 2 + px / 4, y0 / 4 + my / 2 + py / 4, ux, uy)
    delay = channel.get("delay")
    kind += " late" if isinstance(delay, int) and delay > 0 else ""
    return element("g", element("title", channel["name"]), element("path", d=path, class_=kind), bars)


def _bars(x: float, y: float, ux: float, uy: float) -> Html:
    """Draw two bars across a line at a point, given its direction."""
    path = "".join(
        f"M{x + side * ux - 5 * uy:.1f} {y + side * uy + 5 * ux:.1f}l{10 * uy:.1f} {-10 * ux:.1f}"
        for side in (-2, 2)
    )
    return element("path", d=path, class_="axis")


def _node(
    agent: Mapping[str, Any], place: tuple[float, float], radius: float, *, named: bool
) -> Iterator[Html]:
    x, y = place
    role, part = agent.get("role"), agent.get("part")
    kind = f"node {role}" if role in ("readout", "frozen") else "node"
    kind += f" placed k{part % _PARTS}" if isinstance(part, int) else ""
    title = element("title", agent["name"])
    if role == "readout":
        side = radius * 1.8
        shape = element("rect", x=x - side / 2, y=y - side / 2, width=side, height=side, class_=kind)
    else:
        shape = element("circle", cx=x, cy=y, r=radius, class_=kind)
    yield element("g", title, shape)
    if named:
        text = words(agent["name"], 12)
        yield element("text", text, x=x, y=y + radius + 13, text_anchor="middle")
