"""A timeline as plain text: a row per agent and channel, a column per step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from antiphon.telemetry.timeline import AgentTimes, ChannelTimes, Timeline

__all__ = ["MOST_AGENTS", "MOST_CHANNELS", "left_out", "raster_lines"]

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
_AGES = {
    "-": "nothing to read",
    "x": "the message sent now is never read",
    "!": "from before the window, and no credit goes back",
}

Row = tuple[str, list[str]]
"""A row: its label, and a cell per step."""


def raster_lines(timeline: Timeline, width: int = 120) -> list[str]:
    """Return the lines of the text: blocks of as many steps as fit, then the legend.

    Args:
        timeline: The timeline.
        width: Characters of a line.
    """
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
        yield ages + _signs(_AGES, (cells for _, cells in channels))


def _signs(meanings: dict[str, str], rows: Iterator[list[str]]) -> str:
    found = {sign for cells in rows for text in cells for sign in text}
    return "".join(f" · {sign} {words}" for sign, words in meanings.items() if sign in found)
