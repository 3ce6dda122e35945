"""The section of the first steps: who ticks and learns when, how old what is read is, how far back credit reaches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from antiphon.telemetry.report.chart import words
from antiphon.telemetry.report.html import Html, element, joined, section
from antiphon.telemetry.report.run import ReportRun

__all__ = ["timing"]

_AGENTS, _CHANNELS = 24, 32
"""Rows, at most."""
_STEPS = 48
"""Columns, at most."""
_WIDTH, _NAMES = 960, 170
_ROW, _REACH = 22, 42
"""Heights of rows: of ticks and ages; of the bars of credit."""
_TOP, _GAP = 22, 40


class _First(NamedTuple):
    """The first steps of a run, cut to what is drawn."""

    start: int
    steps: int
    ends: Sequence[int]
    """Steps at which episodes end."""
    agents: Sequence[tuple[str, Mapping[str, Any]]]
    channels: Sequence[tuple[str, Mapping[str, Any]]]
    cut: str
    """What is left out; empty where nothing is."""


def timing(runs: Sequence[ReportRun]) -> Html:
    """Return the pictures of the first steps; runs whose first steps are the same share one."""
    pictures: dict[str, tuple[_First | None, list[str]]] = {}
    for run in runs:
        if run.data is None or run.data.timeline is None:
            continue
        first = _first(run.data.graph, run.data.timeline)
        pictures.setdefault(json.dumps(first, default=str), (first, []))[1].append(run.name)
    blocks = [_block(first, names, alone=len(pictures) == 1) for first, names in pictures.values()]
    if not blocks:
        text = "No run says what happens in its first steps (graphs beyond a size do not)."
        blocks = [element("p", text, class_="empty")]
    says = (
        "The first steps, as clocks, delays and windows make them. A square: the agent ticks. A bar at its right: its "
        "window ends, it learns. A number: how many steps ago what it reads was sent (pale to dark: fresh to old); "
        "a cross: what is sent at this step is never read. Blue bars: how many steps back the true gradient reaches."
    )
    return section("timing", "First steps", says, *blocks)


def _block(first: _First | None, names: Sequence[str], *, alone: bool) -> Html:
    head = None if alone else element("h3", ", ".join(names))
    if first is None:
        return element(
            "div", head, element("p", "The timeline in the event file is damaged.", class_="empty")
        )
    below = element("p", first.cut, class_="says") if first.cut else None
    return element("div", head, element("figure", _picture(first), below))


def _first(graph: Mapping[str, Any], timeline: Mapping[str, Any]) -> _First | None:
    """Return what is drawn of a timeline; None where it is not what it should be."""
    try:
        start, steps = int(timeline["start"]), int(timeline["steps"])
        shown = range(start, start + min(steps, _STEPS))
        agents = [
            (
                item["name"],
                {
                    "ticks": [int(step) for step in own["ticks"] if step in shown],
                    "ends": [int(step) for step in own["ends"] if step in shown],
                    "since": [(int(step), int(since)) for step, since in own["since"] if step in shown],
                },
            )
            for item, own in zip(graph["agents"], timeline["agents"][:_AGENTS], strict=False)
        ]
        channels = [
            (
                item["name"],
                {
                    "read": [(int(step), int(age)) for step, age in own["read"] if step in shown],
                    "unread": [int(step) for step in own["unread"] if step in shown],
                },
            )
            for item, own in zip(graph["channels"], timeline["channels"][:_CHANNELS], strict=False)
        ]
        ends = [int(step) for step in timeline["episode_ends"] if step in shown]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    counts = (
        (len(graph["agents"]), len(agents), "agents"),
        (len(graph["channels"]), len(channels), "channels"),
        (steps, len(shown), "steps"),
    )
    cut = [f"{drawn:,} of {count:,} {what}" for count, drawn, what in counts if drawn < count]
    said = f"Drawn: {', '.join(cut)}." if cut else ""
    return _First(start, len(shown), ends, agents, channels, said)


def _picture(first: _First) -> Html:
    parts: list[Html] = []
    top = 0.0
    for title, rows, height in (
        ("who ticks, and whose window ends", [_ticks(own) for _, own in first.agents], _ROW),
        ("how old what is read is (steps)", [_ages(own, _oldest(first)) for _, own in first.channels], _ROW),
        ("how far back the true gradient reaches (steps)", _credits(first), _REACH),
    ):
        if not rows:
            continue
        names = [name for name, _ in (first.channels if "old" in title else first.agents)]
        parts.append(element("text", title, x=float(_NAMES), y=top + 14, class_="head"))
        top += _TOP
        for place, (name, row) in enumerate(zip(names, rows, strict=True)):
            middle = top + (place + 0.5) * height
            whole = element("title", name)
            parts.append(
                element("text", whole, words(name, 24), x=_NAMES - 10.0, y=middle + 4, text_anchor="end")
            )
            parts += row(middle, _Columns(first))
        parts += _episodes(first, top, top + len(rows) * height)
        top += len(rows) * height
        parts += _numbers(first, top + 14)
        top += _GAP
    return element(
        "svg",
        element("title", "The first steps: ticks, ages of messages, reach of credit"),
        joined(parts),
        viewBox=f"0 0 {_WIDTH} {top - 18:.0f}",
        role="img",
        class_="chart timing",
    )


class _Columns:
    """Where steps stand."""

    def __init__(self, first: _First) -> None:
        self.wide = min((_WIDTH - _NAMES - 6) / max(first.steps, 1), 40.0)
        self._start = first.start

    def at(self, step: int) -> float:
        """Return the middle of a step's column."""
        return _NAMES + (step - self._start + 0.5) * self.wide


def _ticks(own: Mapping[str, Any]) -> Any:
    def drawn(middle: float, columns: _Columns) -> Iterator[Html]:
        side = min(columns.wide * 0.6, 13.0)
        path = "".join(
            f"M{columns.at(step) - side / 2:.1f} {middle - side / 2:.1f}h{side:.1f}v{side:.1f}h{-side:.1f}z"
            for step in own["ticks"]
        )
        yield element("path", d=path, class_="tick")
        ends = "".join(f"M{columns.at(s) + columns.wide * 0.42:.1f} {middle - 8:.1f}v16" for s in own["ends"])
        if ends:
            yield element("path", d=ends, class_="end")

    return drawn


def _ages(own: Mapping[str, Any], oldest: int) -> Any:
    def drawn(middle: float, columns: _Columns) -> Iterator[Html]:
        wide = columns.wide
        for step, age in own["read"]:
            left, shade = columns.at(step) - wide * 0.45, round(4 * age / oldest)
            box = {"x": left, "y": middle - 9, "width": wide * 0.9, "height": 18.0}
            yield element("rect", class_=f"age a{max(min(shade, 4), 0)}", **box)
            if wide >= 12:
                yield element(
                    "text",
                    str(age),
                    x=columns.at(step),
                    y=middle + 4,
                    text_anchor="middle",
                    class_=f"t{shade}",
                )
        corner = wide * 0.28
        cross = "".join(
            f"M{columns.at(step) + corner - 3:.1f} {middle + 1:.1f}l6 6m0 -6l-6 6" for step in own["unread"]
        )
        if cross:
            yield element("path", d=cross, class_="unread")

    return drawn


def _oldest(first: _First) -> int:
    return max((age for _, own in first.channels for _, age in own["read"]), default=1) or 1


def _credits(first: _First) -> list[Any]:
    """Return a row of bars per agent: as high as the steps that the true gradient reaches, the tick's own among them."""
    highest = max((step - since for _, own in first.agents for step, since in own["since"]), default=0) + 1
    unit = (_REACH - 16) / highest

    def row(own: Mapping[str, Any]) -> Any:
        def drawn(middle: float, columns: _Columns) -> Iterator[Html]:
            bottom = middle + _REACH / 2 - 2
            for step, since in own["since"]:
                high = unit * (max(step - since, 0) + 1)
                left, wide = columns.at(step) - columns.wide * 0.4, columns.wide * 0.8
                yield element("rect", x=left, y=bottom - high, width=wide, height=high, class_="tick")
                if columns.wide >= 12:
                    place = {"x": columns.at(step), "y": bottom - high - 3}
                    yield element("text", str(step - since), text_anchor="middle", class_="small", **place)

        return drawn

    return [row(own) for _, own in first.agents]


def _episodes(first: _First, top: float, bottom: float) -> Iterator[Html]:
    columns = _Columns(first)
    for step in first.ends:
        x = columns.at(step) + columns.wide / 2
        yield element("path", d=f"M{x:.1f} {top:.1f}V{bottom:.1f}", class_="episode")


def _numbers(first: _First, y: float) -> Iterator[Html]:
    columns = _Columns(first)
    every = max(-(-28 // max(round(columns.wide), 1)), 1)
    for step in range(first.start, first.start + first.steps, every):
        yield element("text", str(step), x=columns.at(step), y=y, text_anchor="middle", class_="small")
