"""A timeline of ticks and windows, ages of messages, and how far credit reaches: as plain text (a row per agent and
channel, a column per step), or as a picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from antiphon.telemetry.pictures import encoded_png, new_figure, save_figure
from antiphon.telemetry.timeline import AgentTimes, ChannelTimes, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_AGENTS", "MOST_CHANNELS", "draw_timeline", "left_out", "raster_lines", "timeline_png"]

MOST_AGENTS = 12
MOST_CHANNELS = 16
"""Most rows of a picture or a text; a line counts the others."""
_EPISODE = "|"

_MARKS = {
    "o": "ticks",
    "#": "ticks, and its window ends: it learns",
    ":": "its window ends between two ticks",
    ".": "does not tick; what it sent last stands",
    _EPISODE: "an episode ends",
}
_CREDIT = {
    "+": "a synthetic gradient stands for what lies beyond",
    "~": "the rest comes later, over a delayed channel",
}
_AGE_SIGNS = {
    "-": "nothing to read",
    "x": "the message sent now is never read",
    "!": "from before the window, and no credit goes back",
}

Row = tuple[str, list[str]]
"""A row: its label, and a cell per step."""


def raster_lines(timeline: Timeline, width: int = 120) -> list[str]:
    """Return the lines of the text, `width` characters each: blocks of as many steps as fit, then the legend."""
    agents = [row for agent in timeline.agents[:MOST_AGENTS] for row in _agent(agent, timeline.start)]
    channels = [_channel(channel) for channel in timeline.channels[:MOST_CHANNELS]]
    steps = [str(timeline.start + index) for index in range(timeline.steps)]
    rows: list[Row] = [("step", steps), *agents, *channels]
    margin = max(len(name) for name, _ in rows) + 2
    cell = max(len(text) for _, cells in rows for text in cells)
    fit = max((width - margin) // (cell + 1), 1)
    blocks = -(-timeline.steps // fit)
    fit = -(-timeline.steps // blocks)
    lines: list[str] = []
    for begin in range(0, timeline.steps, fit):
        block = range(begin, min(begin + fit, timeline.steps))
        lines += [_line(name, cells, block, margin, cell, timeline) for name, cells in rows]
        lines.append("")
    more = left_out(timeline)
    return [*lines, *([more, ""] if more else []), *_legend(agents, channels, timeline)]


def left_out(timeline: Timeline) -> str:
    """Return the line that counts omitted rows; empty without any."""
    counts = {
        "agent": len(timeline.agents) - MOST_AGENTS,
        "channel": len(timeline.channels) - MOST_CHANNELS,
    }
    words = [f"{n:,} more {what}{'' if n == 1 else 's'}" for what, n in counts.items() if n > 0]
    return f"… and {', '.join(words)}" if words else ""


def _line(name: str, cells: Sequence[str], block: range, margin: int, cell: int, timeline: Timeline) -> str:
    ends = timeline.episode_ends
    written = (f"{cells[index]:<{cell}}{_EPISODE if ends[index] else ' '}" for index in block)
    return (f"{name:<{margin}}" + "".join(written)).rstrip()


def _agent(agent: AgentTimes, start: int) -> Iterator[Row]:
    marks = {(True, False): "o", (True, True): "#", (False, True): ":", (False, False): "."}
    pairs = zip(agent.ticks.tolist(), agent.ends.tolist(), strict=True)
    yield agent.name, [marks[pair] for pair in pairs]
    credit = [
        "" if since < 0 else f"{start + index - since}{_beyond(agent, index)}"
        for index, since in enumerate(agent.since.tolist())
    ]
    yield "  credit", credit


def _beyond(agent: AgentTimes, index: int) -> str:
    synthetic = agent.state_credit[index] or agent.message_credit[index]
    return ("+" if synthetic else "") + ("~" if agent.late_credit[index] else "")


def _channel(channel: ChannelTimes) -> Row:
    cells = []
    for index, stamps in enumerate(channel.stamps):
        newest = int(channel.ages[index])
        oldest = newest + stamps[-1] - stamps[0] if stamps else newest
        text = ("-" if newest < 0 else str(newest)) if channel.due[index] else ""
        text += f"–{oldest}" if oldest > newest else ""
        text += ("!" if channel.cut[index] else "") + ("x" if channel.unread[index] else "")
        cells.append(text or ".")
    return f"{channel.name} ({channel.coupling})", cells


def _legend(agents: Sequence[Row], channels: Sequence[Row], timeline: Timeline) -> Iterator[str]:
    """Return the legend of the signs in use."""
    found = {text for name, cells in agents if name != "  credit" for text in cells}
    if timeline.episode_ends.any():
        found.add(_EPISODE)
    yield "agents:   " + " · ".join(f"{sign} {words}" for sign, words in _MARKS.items() if sign in found)
    yield "credit:   steps back that the true gradient of what is done at the tick reaches" + _signs(
        _CREDIT, (cells for name, cells in agents if name == "  credit")
    )
    if channels:
        ages = "channels: steps since what is read was sent (of several: newest–oldest)"
        yield ages + _signs(_AGE_SIGNS, (cells for _, cells in channels))


def _signs(meanings: dict[str, str], rows: Iterator[list[str]]) -> str:
    found = {sign for cells in rows for text in cells for sign in text}
    return "".join(f" · {sign} {words}" for sign, words in meanings.items() if sign in found)


_INK = "#22303c"
_FAINT = "#c3cbd3"
_TICK = "#0072b2"
_END = "#d55e00"
_LATE = "#cc79a7"
_AGES = ("#eaf3f9", "#7fb4d6")
"""Colours for colour-blind readers (Okabe and Ito 2008), repeated by signs and hatches.
Ages are between the last two: none, and the oldest in the picture."""
_HEADINGS = (
    "who ticks, and whose window ends",
    "how old what is read is (steps)",
    "how far back credit reaches (steps)",
)
_WIDTH = 12.8
_TOP = 0.6
_BOTTOM = 1.1
_GAP = 0.5
_ROW = 0.3
_BAR_ROW = 0.6
"""Inches; a picture saved at 100 points per inch is 1,280 wide."""
_CROWDED = 48
"""Steps beyond which numbers are left out."""


def draw_timeline(timeline: Timeline, path: str | Path | None = None, title: str = "") -> Figure:
    """Draw a timeline: above, when agents tick and learn; in the middle, ages of messages; below, reach of credit.

    The same timeline always gives the same picture.

    Args:
        timeline: The timeline.
        path: Where to save the picture, if anywhere; its suffix is the format (`.png`, `.svg`, `.pdf`).
        title: Heading.

    Raises:
        RunError: If matplotlib is not installed, or the file cannot be written.
    """
    agents, channels = timeline.agents[:MOST_AGENTS], timeline.channels[:MOST_CHANNELS]
    heights = [len(agents) * _ROW, len(channels) * _ROW, len(agents) * _BAR_ROW]
    used = [height for height in heights if height]
    total = _TOP + _BOTTOM + sum(used) + _GAP * max(len(used) - 1, 0)
    figure = new_figure("a picture of the timeline", figsize=(_WIDTH, total))
    names = [*(agent.name for agent in agents), *(channel.name for channel in channels)]
    margin = min(0.3 + 0.085 * max(map(len, names), default=0), 4.0)
    top = total - _TOP
    for height, words in zip(heights, _HEADINGS, strict=True):
        if not height:
            continue
        top -= height
        box = (margin / _WIDTH, top / total, (_WIDTH - margin - 0.15) / _WIDTH, height / total)
        top -= _GAP
        axes = figure.add_axes(box)
        axes.set_title(words, loc="left", fontsize=8.5, color=_INK, pad=4)
        _frame(axes, timeline, channels if words == _HEADINGS[1] else agents)
        if words == _HEADINGS[0]:
            _draw_ticks(axes, agents, timeline.steps)
        elif words == _HEADINGS[1]:
            _draw_ages(axes, channels)
        else:
            _draw_credit(axes, agents, timeline)
    heading = title or f"steps {timeline.start}–{timeline.start + timeline.steps - 1}"
    figure.text(0.15 / _WIDTH, 1 - 0.26 / total, heading, fontsize=11, color=_INK, parse_math=False)
    _draw_legend(figure, timeline, total)
    if path is not None:
        save_figure(figure, os.path.realpath(path), dpi=100)
    return figure


def timeline_png(timeline: Timeline) -> tuple[bytes, int, int]:
    """Return the picture of a timeline as a PNG file, with its width and height in pixels.

    Raises:
        RunError: If matplotlib is not installed.
    """
    return encoded_png(draw_timeline(timeline))


def _frame(axes: Axes, timeline: Timeline, rows: tuple[AgentTimes, ...] | tuple[ChannelTimes, ...]) -> None:
    """Set up axes with a named row each and a column per step; row 0 is the uppermost."""
    axes.set(xlim=(-0.5, timeline.steps - 0.5), ylim=(len(rows), 0))
    every = max(-(-timeline.steps // _CROWDED), 1)
    places = range(0, timeline.steps, every)
    axes.set_xticks(list(places), [str(timeline.start + place) for place in places])
    axes.set_yticks([row + 0.5 for row in range(len(rows))], [part.name for part in rows])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=_INK, pad=3)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row in range(1, len(rows)):
        axes.axhline(row, color="#eef1f4", linewidth=0.8, zorder=0)
    for index in np.flatnonzero(timeline.episode_ends):
        axes.axvline(index + 0.5, color=_INK, linewidth=1.2, linestyle=(0, (4, 2)), zorder=4)


def _draw_ticks(axes: Axes, agents: tuple[AgentTimes, ...], steps: int) -> None:
    for row, agent in enumerate(agents):
        axes.plot([-0.5, steps - 0.5], [row + 0.5] * 2, color=_FAINT, linewidth=2, zorder=1)
        ticks = np.flatnonzero(agent.ticks)
        axes.scatter(ticks, np.full(len(ticks), row + 0.5), s=_area(steps), marker="s", color=_TICK, zorder=2)
        ends = np.flatnonzero(agent.ends) + 0.42
        axes.vlines(ends, row + 0.1, row + 0.9, color=_END, linewidth=2.5, zorder=3)


def _area(steps: int) -> float:
    """Return the area of a tick's square, in square points: it fits its column."""
    return float(min(10.0, 0.6 * 72 * 10.0 / steps) ** 2)


def _draw_ages(axes: Axes, channels: tuple[ChannelTimes, ...]) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    colours = LinearSegmentedColormap.from_list("ages", _AGES)
    oldest = max([1, *(int(channel.ages.max()) for channel in channels)])
    for row, channel in enumerate(channels):
        crowded = len(channel.ages) > _CROWDED
        for index, stamps in enumerate(channel.stamps):
            age = int(channel.ages[index])
            if channel.due[index]:
                fill = colours(age / oldest) if stamps else "white"
                edge = _END if channel.cut[index] else _FAINT
                axes.add_patch(
                    Rectangle(
                        (index - 0.44, row + 0.08),
                        0.88,
                        0.84,
                        facecolor=fill,
                        edgecolor=edge,
                        linewidth=1.6 if channel.cut[index] else 0.6,
                        zorder=1,
                    )
                )
                if not crowded:
                    text = _age(age, stamps)
                    axes.text(
                        index,
                        row + 0.5,
                        text,
                        fontsize=7.5 if len(text) < 3 else 6,
                        color=_INK,
                        ha="center",
                        va="center_baseline",
                    )
        unread = np.flatnonzero(channel.unread)
        axes.scatter(
            unread + 0.27, np.full(len(unread), row + 0.74), s=14, marker="x", color=_INK, linewidths=0.9
        )


def _age(age: int, stamps: tuple[int, ...]) -> str:
    if not stamps:
        return "–"
    return str(age) if len(stamps) == 1 else f"{age}–{age + stamps[-1] - stamps[0]}"


def _draw_credit(axes: Axes, agents: tuple[AgentTimes, ...], timeline: Timeline) -> None:
    """Draw a bar per tick: as high as the steps that the true gradient reaches, the tick's own among them."""
    now = timeline.start + np.arange(timeline.steps)
    highest = max([1, *(int((now - agent.since)[agent.ticks].max(initial=0)) for agent in agents)]) + 1
    unit = 0.55 / highest
    for row, agent in enumerate(agents):
        ticks = np.flatnonzero(agent.ticks)
        reached = (now - agent.since)[ticks]
        heights = unit * (reached + 1)
        base = row + 0.97
        axes.bar(ticks, -heights, bottom=base, width=0.8, color=_TICK, zorder=2)
        synthetic = (agent.state_credit | agent.message_credit)[ticks]
        late = agent.late_credit[ticks]
        top = base - heights
        for which, colour, hatch in ((synthetic, _END, "////"), (late & ~synthetic, _LATE, "....")):
            axes.bar(
                ticks[which],
                -0.14,
                bottom=top[which],
                width=0.8,
                facecolor="white",
                edgecolor=colour,
                hatch=hatch,
                linewidth=0.8,
                zorder=2,
            )
        if timeline.steps <= _CROWDED:
            for index, steps, high in zip(
                ticks, reached, top - 0.14 * (synthetic | late) - 0.02, strict=True
            ):
                axes.text(
                    float(index), float(high), str(steps), fontsize=6.5, color=_INK, ha="center", va="bottom"
                )


def _draw_legend(figure: Figure, timeline: Timeline, total: float) -> None:
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: dict[str, Artist] = {
        "tick": Line2D([], [], linestyle="", marker="s", markersize=8, color=_TICK),
        "no tick: what it sent last stands": Line2D([], [], color=_FAINT, linewidth=2),
        "window ends: it learns": Line2D(
            [], [], linestyle="", marker="|", markersize=12, markeredgewidth=2.5, color=_END
        ),
    }
    if timeline.episode_ends.any():
        keys["episode ends"] = Line2D([], [], color=_INK, linewidth=1.2, linestyle=(0, (4, 2)))
    channels = timeline.channels[:MOST_CHANNELS]
    if channels:
        keys["age of what is read (–: nothing)"] = Patch(facecolor=_AGES[0], edgecolor=_FAINT, linewidth=0.6)
    if any(channel.unread.any() for channel in channels):
        keys["message sent now is never read"] = Line2D(
            [], [], linestyle="", marker="x", markersize=5, color=_INK
        )
    if any(channel.cut.any() for channel in channels):
        keys["from before the window: no credit goes back"] = Patch(
            facecolor="white", edgecolor=_END, linewidth=1.6
        )
    keys["what the true gradient reaches"] = Patch(facecolor=_TICK)
    agents = timeline.agents[:MOST_AGENTS]
    if any((agent.state_credit | agent.message_credit).any() for agent in agents):
        keys["beyond: a synthetic gradient"] = Patch(facecolor="white", edgecolor=_END, hatch="////")
    if any(agent.late_credit.any() for agent in agents):
        keys["beyond: the true one, later"] = Patch(facecolor="white", edgecolor=_LATE, hatch="....")
    figure.legend(
        list(keys.values()),
        list(keys),
        loc="lower left",
        bbox_to_anchor=(0.1 / _WIDTH, 0.18 / total),
        ncols=4,
        frameon=False,
        fontsize=8.5,
        labelcolor=_INK,
        columnspacing=1.4,
        borderaxespad=0.0,
    )
    figure.text(0.15 / _WIDTH, 0.06 / total, left_out(timeline), fontsize=8.5, color=_INK)
