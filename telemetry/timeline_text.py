"""The timeline of a scenario: ticks, windows, messages and gradients, step by step; as data, and as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from antiphon.base.errors import with_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    """[steps]"""
    Steps = NDArray[np.int64]
    """[steps]"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AgentTimes:
    """Timeline of one agent: its ticks and its updates."""

    name: str
    ticks: Flags
    """Per step: whether the agent ticks."""
    ends: Flags
    """Per step: whether its window ends, with an update."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChannelTimes:
    """Timeline of one channel, on a link without losses: when messages are read and when their gradients return."""

    name: str
    sender: str
    receiver: str
    coupling: str
    state: bool
    """Whether the channel carries an agent's state to its own next tick."""
    sent: Flags
    """Per step: whether a message is sent."""
    stamps: tuple[tuple[int, ...], ...]
    """Per step: when the messages that the receiver's tick reads were sent, oldest first; empty without a tick or a message."""
    due: Flags
    """Per step: whether the receiver ticks."""
    unread: Flags
    """Per step: whether the message sent at it is never read, because it is replaced or its episode ends first."""
    cut: Flags
    """Per step: whether the message read was sent before the present window, and no gradient crosses the window's border."""
    back: Steps
    """Per step: the step at which the true gradient of the message sent at it returns to the sender; -1: never.
    The earliest possible step if the receiver itself learns late."""
    ages: Steps
    """Per step: steps since the newest of the messages read was sent; -1 without a message."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Timeline:
    """Timeline: events of agents and channels in some steps of a run.

    Step numbers in its arrays count from 0, as clocks do; `raster_lines` count from 1, as metrics do.
    """

    start: int
    """Steps before the first one."""
    steps: int
    agents: tuple[AgentTimes, ...]
    channels: tuple[ChannelTimes, ...]
    episode_ends: Flags
    """Per step: whether episodes end. If their lengths vary, all are assumed to be as long as the present one."""

    def __str__(self) -> str:
        return "\n".join(raster_lines(self))


# --- as text -----------------------------------------------------------------------------------------------

MOST_AGENTS = 12
MOST_CHANNELS = 16
"""Most agents and channels in the text by default; one more line counts the others."""

_LEGEND = """\
agents:   o ticks · # ticks, and its window ends: it learns if it has a loss or a gradient · : its window ends between two ticks · . does not tick; its last \
message remains · | an episode ends
channels: age in steps of the message read (of several: newest–oldest) · - nothing to read · x the message sent now is never \
read · ! sent before the window; no gradient returns
"""

Row = tuple[str, list[str]]
"""A row: its label, and a cell per step."""


def raster_lines(
    timeline: Timeline,
    width: int = 120,
    *,
    most_agents: int = MOST_AGENTS,
    most_channels: int = MOST_CHANNELS,
) -> list[str]:
    """Return the lines of the text, at most `width` characters each: blocks of as many steps as fit, then the legend."""
    agents = [_agent(agent) for agent in timeline.agents[:most_agents]]
    channels = [
        (f"{channel.name} ({channel.coupling})", [text or "." for text in _channel_cells(channel)])
        for channel in timeline.channels[:most_channels]
    ]
    steps = [str(timeline.start + index + 1) for index in range(timeline.steps)]
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
    counts = {"agent": len(timeline.agents) - most_agents, "channel": len(timeline.channels) - most_channels}
    omitted = [with_count(n, f"more {kind}") for kind, n in counts.items() if n > 0]
    return [*lines, *([f"… and {', '.join(omitted)}", ""] if omitted else []), *_LEGEND.splitlines()]


def _line(name: str, cells: Sequence[str], block: range, margin: int, cell: int, timeline: Timeline) -> str:
    ends = timeline.episode_ends
    written = (f"{cells[index]:<{cell}}{'|' if ends[index] else ' '}" for index in block)
    return (f"{name:<{margin}}" + "".join(written)).rstrip()


def _agent(agent: AgentTimes) -> Row:
    marks = {(True, False): "o", (True, True): "#", (False, True): ":", (False, False): "."}
    return agent.name, [marks[pair] for pair in zip(agent.ticks.tolist(), agent.ends.tolist(), strict=True)]


def _channel_cells(channel: ChannelTimes) -> list[str]:
    """Return what a channel's row says of each step (see the legend); "" where its receiver reads nothing."""
    cells = []
    for index, stamps in enumerate(channel.stamps):
        newest = int(channel.ages[index])
        oldest = newest + stamps[-1] - stamps[0] if stamps else newest
        text = ("-" if newest < 0 else str(newest)) if channel.due[index] else ""
        text += f"–{oldest}" if oldest > newest else ""
        text += ("!" if channel.cut[index] else "") + ("x" if channel.unread[index] else "")
        cells.append(text)
    return cells
