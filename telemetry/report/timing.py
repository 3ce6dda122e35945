"""Section of the first steps: ticks and updates of agents, ages of messages, reach of credit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from antiphon.telemetry.report.chart import words
from antiphon.telemetry.report.html import Html, drawing, element, section
from antiphon.telemetry.report.run import ReportRun

__all__ = ["timing"]

_ROWS = 32
"""Most distinct rows of agents, and of channels."""
_STEPS = 48
"""Most columns."""
_WIDTH, _NAMES, _WIDEST = 1080, 190, 44
_ROW, _REACH = 22, 40
"""Heights of rows: of ticks and ages; of the bars of credit."""
_BAR = 6
"""Largest height of a bar of one step."""
_TOP, _GAP = 22, 34
_NUMBERED = 12
"""Least width of a column with numbers."""

_Pairs = tuple[tuple[int, int], ...]


class _Agent(NamedTuple):
    """Row of one or several agents with equal timelines."""

    ticks: tuple[int, ...]
    ends: tuple[int, ...]
    since: _Pairs


class _Channel(NamedTuple):
    """Row of one or several channels with equal timelines."""

    read: _Pairs
    unread: tuple[int, ...]


class _First(NamedTuple):
    """The first steps of a run, limited to the picture's size; equal agents or channels share a row."""

    steps: range
    ends: tuple[int, ...]
    agents: Mapping[_Agent, Sequence[str]]
    channels: Mapping[_Channel, Sequence[str]]


def timing(runs: Sequence[ReportRun]) -> Html:
    """Return the pictures of the first steps; runs with equal first steps share one."""
    pictures: dict[str, tuple[Html, list[str]]] = {}
    for run in runs:
        if run.data is not None and run.data.timeline is not None:
            key = json.dumps([_names_of(run.data.graph), run.data.timeline])
            if key not in pictures:
                pictures[key] = _block(_first(run.data.graph, run.data.timeline)), []
            pictures[key][1].append(run.name)
    blocks = [
        element("div", element("h3", ", ".join(names)) if len(pictures) > 1 else None, picture)
        for picture, names in pictures.values()
    ]
    if not blocks:
        text = "No run says what happens in its first steps (graphs beyond a size do not)."
        blocks = [element("p", text, class_="empty")]
    says = (
        "The first steps, as clocks, delays and windows make them; agents and channels that do the same share a row. "
        "A square: the agent ticks. A bar at its right: its window ends, it learns. A number: how many steps ago what "
        "is read was sent; a cross: what is sent at this step is never read. Blue bars: how many steps back the "
        "true gradient of a tick reaches. A dashed line: episodes end."
    )
    return section("timing", "First steps", says, *blocks)


# --- reading ------------------------------------------------------------------------------------------------


def _names_of(graph: Mapping[str, Any]) -> list[str]:
    return [item["name"] for kind in ("agents", "channels") for item in graph[kind]]


def _first(graph: Mapping[str, Any], timeline: Mapping[str, Any]) -> _First | None:
    """Return the rows of a timeline document; None where it is malformed."""
    try:
        start, count = int(timeline["start"]), int(timeline["steps"])
        steps = range(start, start + max(min(count, _STEPS), 1))
        agents: dict[_Agent, list[str]] = {}
        for item, own in zip(graph["agents"], timeline["agents"], strict=True):
            agent = _Agent(
                _within(own["ticks"], steps), _within(own["ends"], steps), _pairs(own["since"], steps)
            )
            agents.setdefault(agent, []).append(item["name"])
        channels: dict[_Channel, list[str]] = {}
        for item, own in zip(graph["channels"], timeline["channels"], strict=True):
            channel = _Channel(_pairs(own["read"], steps), _within(own["unread"], steps))
            channels.setdefault(channel, []).append(item["name"])
        return _First(steps, _within(timeline["episode_ends"], steps), agents, channels)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _within(found: Any, steps: range) -> tuple[int, ...]:
    return tuple(int(step) for step in found if step in steps)


def _pairs(found: Any, steps: range) -> _Pairs:
    return tuple((int(step), int(number)) for step, number in found if step in steps)


# --- drawing ------------------------------------------------------------------------------------------------


def _block(first: _First | None) -> Html:
    if first is None:
        return element("p", "The timeline in the event file is damaged.", class_="empty")
    cut = [
        f"{_ROWS} of {len(rows):,} different {what}"
        for rows, what in ((first.agents, "agents"), (first.channels, "channels"))
        if len(rows) > _ROWS
    ]
    below = element("p", f"Drawn: {', '.join(cut)}.", class_="says") if cut else None
    return element("figure", _picture(first), below)


def _picture(first: _First) -> Html:
    columns = _Columns(first.steps)
    agents, channels = list(first.agents.items())[:_ROWS], list(first.channels.items())[:_ROWS]
    highest = max((step - since + 1 for agent, _ in agents for step, since in agent.since), default=1)
    oldest = max((age for channel, _ in channels for _, age in channel.read), default=0)
    unit = min((_REACH - 16) / max(highest, 1), _BAR)
    parts: list[Html] = []
    top = 0.0
    for title, height, rows in (
        ("who ticks, and whose window ends", _ROW, [(names, _ticks(a, columns)) for a, names in agents]),
        (
            "how old what is read is (steps)",
            _ROW,
            [(names, _ages(c, columns, oldest)) for c, names in channels],
        ),
        (
            "how far back the true gradient reaches (steps)",
            _REACH,
            [(names, _credit(a, columns, unit)) for a, names in agents],
        ),
    ):
        if not rows:
            continue
        parts.append(element("text", title, x=float(_NAMES), y=top + 14, class_="head"))
        top += _TOP
        for place, (names, row) in enumerate(rows):
            parts.append(_label(names, top + (place + 0.5) * height))
            place_of_row = f"translate(0 {top + (place + 0.5) * height:.1f})"
            parts.append(element("g", *row, transform=place_of_row))
        bottom = top + len(rows) * height
        for step in first.ends:
            x = columns.at(step) + columns.wide / 2
            parts.append(element("path", d=f"M{x:.1f} {top:.1f}V{bottom:.1f}", class_="episode"))
        parts += columns.numbers(bottom + 13)
        top = bottom + _GAP
    width, height = round(columns.end) + 8, round(top - 14)
    title = "The first steps: ticks, ages of messages, reach of credit"
    return drawing(parts, title, (0, 0, width, height), sized=True)


class _Columns:
    """Positions of steps."""

    def __init__(self, steps: range) -> None:
        self._steps = steps
        self.wide = min((_WIDTH - _NAMES - 8) / len(steps), float(_WIDEST))
        self.end = _NAMES + len(steps) * self.wide

    def at(self, step: int) -> float:
        """Return the middle of a step's column."""
        return _NAMES + (step - self._steps.start + 0.5) * self.wide

    def numbers(self, y: float) -> Iterator[Html]:
        """Yield the numbers of the steps, from 1 as in the live graph, as many as fit."""
        every = max(-(-28 // max(round(self.wide), 1)), 1)
        for step in self._steps[::every]:
            yield element("text", str(step + 1), x=self.at(step), y=y, text_anchor="middle", class_="small")


def _label(names: Sequence[str], middle: float) -> Html:
    """Return the name of a row: the first of those that share it, and how many more there are."""
    more = f" + {len(names) - 1} more" if len(names) > 1 else ""
    text = words(names[0], 26 - len(more)) + more
    whole = element("title", ", ".join(names))
    return element("text", whole, text, x=_NAMES - 12.0, y=middle + 4, text_anchor="end")


def _ticks(agent: _Agent, columns: _Columns) -> Iterator[Html]:
    side = min(columns.wide * 0.6, 13.0)
    square = f"h{side:.1f}v{side:.1f}h{-side:.1f}z"
    ticks = "".join(f"M{columns.at(s) - side / 2:.1f} {-side / 2:.1f}{square}" for s in agent.ticks)
    ends = "".join(f"M{columns.at(s) + columns.wide * 0.4:.1f} -8v16" for s in agent.ends)
    yield element("path", d=f"M{_NAMES + 2} 0H{columns.end - 2:.1f}", class_="base")
    yield element("path", d=ticks, class_="tick")
    yield element("path", d=ends, class_="end")


def _ages(channel: _Channel, columns: _Columns, oldest: int) -> Iterator[Html]:
    wide = columns.wide
    for step, age in channel.read:
        shade = min(max(round(3 * age / oldest), 0), 3) if oldest > 0 else 0
        left = columns.at(step) - wide * 0.45
        yield element("rect", x=left, y=-9.0, width=wide * 0.9, height=18.0, class_=f"age a{shade}")
        if wide >= _NUMBERED:
            yield element("text", str(age), x=columns.at(step), y=4.0, text_anchor="middle", class_="in")
    corner = wide * 0.32
    cross = "".join(f"M{columns.at(step) + corner - 2.5:.1f} 1.5l5 5m0 -5l-5 5" for step in channel.unread)
    if cross:
        yield element("path", d=cross, class_="unread")


def _credit(agent: _Agent, columns: _Columns, unit: float) -> Iterator[Html]:
    """Yield a bar per tick: as high as the steps that the true gradient reaches, the tick's own among them."""
    for step, since in agent.since:
        high = unit * (max(step - since, 0) + 1)
        left = columns.at(step) - columns.wide * 0.4
        yield element("rect", x=left, y=12.0 - high, width=columns.wide * 0.8, height=high, class_="tick")
        if columns.wide >= _NUMBERED:
            place = {"x": columns.at(step), "y": 12.0 - high - 3}
            yield element("text", str(step - since), text_anchor="middle", class_="small", **place)
