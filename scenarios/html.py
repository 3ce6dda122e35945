"""A scenario in a notebook: its graph and its tables, as HTML without scripts."""

from __future__ import annotations

from html import escape

from antiphon.base import notebook
from antiphon.base.extensions import name_of
from antiphon.base.notebook import html_table
from antiphon.scenarios.relations import Graph

_DRAWN = 60
"""Most agents in the drawing."""
_WIDE, _HIGH = 150, 40
"""Pixels between the agents of the drawing."""
_BOW = 50
"""Pixels to the left at which arrows within a column are drawn to."""


def html_of(scenario: Graph) -> str:
    agents = [
        [
            name,
            agent.in_words or "–",
            "Python" if agent.layers is None else agent.layers.kind,
            f"every {agent.clock.period}, unroll {agent.clock.unroll}",
            " + ".join(goal.in_words for goal in agent.objectives.values()) or "–",
        ]
        for name, agent in scenario.agents.items()
    ]
    channels = [
        [
            channel.name,
            channel.written_coupling.in_words,
            str(name_of(channel.gradient.kind)) if channel.coupling.predicts else "–",
            str(channel.size or "–"),
            str(channel.link.delay),
        ]
        for channel in scenario.channels
    ]
    heads = ("agent", "observes", "network", "ticks", "objective")
    of_channels = ("channel", "coupling", "gradient", "size", "delay")
    tables = html_table(heads, agents, names=5), html_table(of_channels, channels, names=3)
    return notebook.html_of(repr(scenario), drawing(scenario), *tables)


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the path from one agent to another: within a column a bow, as a straight line would cross the names above agents."""
    (x, y), (to_x, to_y) = start, end
    if x == to_x:
        return f"M{x} {y}C{x - _BOW} {y} {x - _BOW} {to_y} {x} {to_y}"
    return f"M{x} {y}L{to_x} {to_y}"


def drawing(scenario: Graph) -> str:
    """Draw agents in columns, by how many channels lead to them from those that observe, and arrows between them."""
    if len(scenario.agents) > _DRAWN:
        return ""
    pairs = [(c.sender, c.receiver) for c in scenario.channels if c.sender != c.receiver]
    observing = [name for name, agent in scenario.agents.items() if agent.observes]
    points: dict[str, tuple[int, int]] = {}
    column, names = 0, observing or list(scenario.agents)[:1]
    while names:
        points |= {name: (column * _WIDE + 60, row * _HIGH + 25) for row, name in enumerate(names)}
        reached = dict.fromkeys(to for start, to in pairs if start in names and to not in points)
        column, names = column + 1, list(reached) or [n for n in scenario.agents if n not in points]
    width, height = (max(point[axis] for point in points.values()) + 60 for axis in (0, 1))
    lines = [
        f'<path d="{_arrow(points[a], points[b])}" stroke="#999" fill="none" marker-end="url(#antiphon-arrow)"/>'
        for a, b in pairs
    ]
    texts = [
        f'<circle cx="{x}" cy="{y}" r="6" fill="#4477aa"/><text x="{x}" y="{y - 9}" font-size="11" '
        f'text-anchor="middle" fill="currentColor">{escape(name)}</text>'
        for name, (x, y) in points.items()
    ]
    arrow = '<marker id="antiphon-arrow" viewBox="0 0 9 8" refX="16" refY="4" markerWidth="9" markerHeight="8" orient="auto">'
    head = f'<defs>{arrow}<path d="M0 0L9 4L0 8z" fill="#999"/></marker></defs>'
    return (
        f'<svg width="{width}" height="{height}" style="display: block">{head}{"".join(lines + texts)}</svg>'
    )
