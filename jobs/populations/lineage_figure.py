"""The figure of a lineage: the members' scores and values over steps, as in figure 6 of Jaderberg et al. 2017."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

from antiphon.jobs.populations.lineage_drawing import (
    LineageDrawing,
    LineagePanel,
    colour_of_rank,
    lineage_drawing,
    member_names,
)
from antiphon.jobs.populations.selection import Entry
from antiphon.scenarios.population_spec import PopulationSpec

_WIDE, _HIGH = 332, 240
"""Size of a panel with its labels, in pixels."""
_LEGEND = 30
"""Height of the legend, in pixels."""
_TICKS = 6
"""Most labels of a logarithmic axis."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 282, 26, 204
"""Sides of the axes within a panel."""
_STYLE = """
svg { font: 11px system-ui, sans-serif; fill: #56636f; }
rect { fill: #ffffff; }
path { fill: none; stroke-width: 1.3; stroke-linecap: round; }
.grid { stroke: #dde3e8; stroke-width: 1; }
.title { font-size: 12px; font-weight: 600; }
.name { font-size: 9px; }
.winner { stroke: #14191f; stroke-width: 2.6; }
@media (prefers-color-scheme: dark) {
svg { fill: #a2afbb; }
rect { fill: #14191f; }
.grid { stroke: #333d47; }
.winner { stroke: #ffffff; }
}
"""


def lineage_svg(lineage: Sequence[Entry], spec: PopulationSpec, metric: str | None) -> str:
    """Return a drawing of the scores and of each parameter that varies: a line for each member, branching where it is copied.

    Lines are coloured by the rank of the member's score, from orange (worst) to blue (best), and end in the member's number, in
    every panel. The
    winner's is bold from its beginning, through the members that it was copied from.
    """
    drawing = lineage_drawing(lineage, spec, metric)
    columns = drawing.columns
    width, height = columns * _WIDE, -(-len(drawing.panels) // columns) * _HIGH + _LEGEND
    panels = [_legend(drawing, height - _LEGEND / 2)]
    for index, panel in enumerate(drawing.panels):
        x, y = index % columns * _WIDE, index // columns * _HIGH
        panels.append(f'<g transform="translate({x} {y})">\n{_panel(panel)}\n</g>')
    body = "\n".join(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">\n'
        f'<style>{_STYLE}</style>\n<rect width="{width}" height="{height}"/>\n{body}\n</svg>\n'
    )


def _legend(drawing: LineageDrawing, high: float) -> str:
    colours = f'<tspan fill="{colour_of_rank(0.0)}">lowest</tspan> to <tspan fill="{colour_of_rank(1.0)}">highest</tspan>'
    bold = f"; {drawing.of_bold}" if drawing.of_bold else ""
    return f'<g><text x="{_LEFT}" y="{high + 4}">score: {colours}; numbers: members{bold}</text></g>'


def _panel(panel: LineagePanel) -> str:
    """Draw axes with ticks, the lines of the best members over all others, the winner over these, and the members' numbers."""
    ends, log = [end for line in panel.lines for end in line[:2]] or [(0, 1.0)], panel.log
    steps, values = zip(*ends, strict=True)
    across = _axis(0, max(*steps, 1), _LEFT, _RIGHT)
    up = _axis(min(values), max(values), _BOTTOM, _TOP, log=log)
    elements = []
    for tick in _ticks(0, max(*steps, 1)):
        elements.append(f'<path class="grid" d="M{across(tick)} {_TOP}V{_BOTTOM}"/>')
        elements.append(f'<text x="{across(tick)}" y="{_BOTTOM + 15}" text-anchor="middle">{tick:.6g}</text>')
    for tick in _ticks(min(values), max(values), log=log):
        elements.append(f'<path class="grid" d="M{_LEFT} {up(tick)}H{_RIGHT}"/>')
        elements.append(f'<text x="{_LEFT - 5}" y="{up(tick) + 4}" text-anchor="end">{tick:.6g}</text>')
    by_rank = defaultdict(list)
    for (step, value), (next_step, reached), rank in panel.lines:
        by_rank[rank].append(f"M{across(step)} {up(value)}L{across(next_step)} {up(reached)}")
    for rank in sorted(by_rank):
        elements.append(f'<path stroke="{colour_of_rank(rank)}" d="{"".join(by_rank[rank])}"/>')
    if panel.winner:
        points = "L".join(f"{across(step)} {up(value)}" for step, value in panel.winner)
        elements.append(f'<path class="winner" d="M{points}"/>')
    elements += _names({member: up(value) for member, (_, value) in panel.ends.items()})
    middle = (_LEFT + _RIGHT) / 2
    elements.append(
        f'<text class="title" x="{middle}" y="17" text-anchor="middle">{escape(panel.title)}</text>'
    )
    elements.append(f'<text x="{middle}" y="{_BOTTOM + 30}" text-anchor="middle">step</text>')
    return "\n".join(elements)


def _names(ends: Mapping[int, float]) -> Iterator[str]:
    for text, up in member_names(ends, _TOP, _BOTTOM, below=3):
        yield f'<text class="name" x="{_RIGHT + 5}" y="{up}">{text}</text>'


def _axis(low: float, high: float, first: int, last: int, *, log: bool = False) -> Callable[[float], float]:
    """Return the pixel of a value on an axis from `first` to `last`; a single value is in the middle."""
    scaled = math.log if log else float
    bottom, length = scaled(low), scaled(high) - scaled(low)

    def pixel(value: float) -> float:
        share = (scaled(value) - bottom) / length if length else 0.5
        return round(first + share * (last - first), 1)

    return pixel


def _ticks(low: float, high: float, *, log: bool = False) -> list[float]:
    """Return round values between two: on a logarithmic axis powers of ten, and also 3, or 2 and 5, times these where there are few."""
    if low == high:
        return [low]
    if log:
        powers = range(math.floor(math.log10(low)), math.floor(math.log10(high) + 1e-9) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            ticks = [factor * 10.0**power for power in powers for factor in factors]
            within = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
            if len(within) <= _TICKS:
                break
        if len(within) > 1:
            return within[:: -(-len(within) // _TICKS)]
    least = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(least))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= least)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
