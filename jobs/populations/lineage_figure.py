"""The figure of a lineage: the members' scores and values over steps, as in figure 6 of Jaderberg et al. 2017."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from operator import attrgetter

from antiphon.jobs.populations.selection import Entry, ancestry, in_words, initial_values, quality
from antiphon.scenarios.population_spec import PopulationSpec, RangeSpec

Line = tuple[tuple[int, float], tuple[int, float], float]
"""Its two ends as step and value, and the score of the member at the second, ranked from 0 (worst) to 1."""

_STEP = attrgetter("step")
_ACROSS = 3
"""Most panels side by side."""
_WIDE, _HIGH = 332, 240
"""Size of a panel with its labels, in pixels."""
_LEGEND, _LETTERS = 30, 9
"""Height of the legend, and of the names of members at the ends of their scores."""
_NAMED = 24
"""Most members that are named."""
_TICKS = 6
"""Most labels of a logarithmic axis."""
_DECADE = 10
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 282, 26, 204
"""Sides of the axes within a panel."""
_COLOURS = (222, 126, 40), (158, 163, 168), (47, 109, 181)
"""Colours of the worst, the middle and the best member, which are told apart on white and on black, and by all eyes."""
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
    by_step = [list(group) for _, group in groupby(sorted(lineage, key=_STEP), key=_STEP)]
    ranks: dict[tuple[int, int], float] = {}  # by step and member, from 0 (worst score of the step) to 1
    for now in by_step:
        order = sorted(now, key=lambda entry: quality(entry.score, metric))
        ranks |= {(entry.step, entry.member): n / max(1, len(order) - 1) for n, entry in enumerate(order)}
    names, initial = list(spec.vary), initial_values(spec)
    lines = [_lines(by_step, ranks, None, ())]
    lines += [_lines(by_step, ranks, name, [values[name] for values in initial]) for name in names]
    entries = [entry for now in by_step for entry in now]
    scores = {entry.member: (entry.step, entry.score) for entry in entries if entry.score is not None}
    newest = {entry.member: entry for entry in entries}.values()
    winner = _Winner.of(lineage, spec, metric)
    columns = 2 if len(lines) == 4 else min(len(lines), _ACROSS)
    width, height = columns * _WIDE, -(-len(lines) // columns) * _HIGH + _LEGEND
    panels = [_legend(winner, height - _LEGEND / 2)]
    for index, (title, lines_of_panel) in enumerate(zip([in_words(metric), *names], lines, strict=True)):
        x, y = index % columns * _WIDE, index // columns * _HIGH
        log = bool(index) and _over_decades(spec.vary[title])
        path = winner.values[title] if index else winner.scores
        values = {entry.member: (entry.step, entry.values[title]) for entry in newest} if index else scores
        panel = _panel(title, lines_of_panel, path, values, log=log)
        panels.append(f'<g transform="translate({x} {y})">\n{panel}\n</g>')
    body = "\n".join(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">\n'
        f'<style>{_STYLE}</style>\n<rect width="{width}" height="{height}"/>\n{body}\n</svg>\n'
    )


def _over_decades(vary: RangeSpec | tuple[float, ...]) -> bool:
    """Return whether values have a logarithmic axis: those of a range with `log`, or a list that spans a decade or more."""
    if isinstance(vary, RangeSpec):
        return vary.log
    return min(vary) > 0 and max(vary) >= _DECADE * min(vary)


@dataclass(frozen=True)
class _Winner:
    """The best member, and what became of it since the beginning, through the members that it was copied from.

    Attributes:
        member: The member; None: no member has been scored.
        values: By parameter, steps and values between which it is drawn.
    """

    member: int | None
    scores: Sequence[tuple[int, float]]
    values: Mapping[str, Sequence[tuple[int, float]]]

    @classmethod
    def of(cls, lineage: Sequence[Entry], spec: PopulationSpec, metric: str | None) -> _Winner:
        """Return the winner of a lineage up to now."""
        stages = ancestry(spec, lineage, metric)
        scored = [stage.entry for stage in stages if stage.entry is not None]
        scores = [(entry.step, entry.score) for entry in scored if entry.score is not None]
        starts = [0, *(stage.step for stage in stages)]
        lines = {
            name: [
                (end, stage.values[name])
                for start, stage in zip(starts, stages, strict=False)
                for end in (start, stage.step)
            ]
            for name in spec.vary
        }
        return cls(stages[-1].member if stages else None, scores, lines)


def _legend(winner: _Winner, high: float) -> str:
    """Return the line below the panels."""
    colours = f'<tspan fill="{_mixed(0.0)}">lowest</tspan> to <tspan fill="{_mixed(1.0)}">highest</tspan>'
    bold = "" if winner.member is None else f"; bold: the winner, member {winner.member}, from its beginning"
    return f'<g><text x="{_LEFT}" y="{high + 4}">score: {colours}; numbers: members{bold}</text></g>'


def _panel(
    title: str,
    lines: Sequence[Line],
    winner: Sequence[tuple[int, float]],
    ends_of: Mapping[int, tuple[int, float]],
    *,
    log: bool,
) -> str:
    """Draw axes with ticks, the lines of the best members over all others, the winner over these, and the members' numbers."""
    ends = [end for line in lines for end in line[:2]] or [(0, 1.0)]
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
    for (step, value), (next_step, reached), rank in lines:
        by_rank[rank].append(f"M{across(step)} {up(value)}L{across(next_step)} {up(reached)}")
    for rank in sorted(by_rank):
        elements.append(f'<path stroke="{_mixed(rank)}" d="{"".join(by_rank[rank])}"/>')
    if winner:
        points = "L".join(f"{across(step)} {up(value)}" for step, value in winner)
        elements.append(f'<path class="winner" d="M{points}"/>')
    elements += _names({member: (across(step), up(score)) for member, (step, score) in ends_of.items()})
    middle = (_LEFT + _RIGHT) / 2
    elements.append(f'<text class="title" x="{middle}" y="17" text-anchor="middle">{escape(title)}</text>')
    elements.append(f'<text x="{middle}" y="{_BOTTOM + 30}" text-anchor="middle">step</text>')
    return "\n".join(elements)


def _mixed(rank: float) -> str:
    """Return the colour of a rank from 0 (worst) to 1."""
    first = min(int(2 * rank), 1)
    pairs = zip(_COLOURS[first], _COLOURS[first + 1], strict=True)
    mixed = (round(start + (2 * rank - first) * (end - start)) for start, end in pairs)
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _names(ends: Mapping[int, tuple[float, float]]) -> Iterator[str]:
    """Yield the numbers of members beside the ends of their lines, from the top down and apart from each other."""
    if len(ends) > _NAMED:
        return
    words, heights = [], list[float]()
    for up, members in groupby(
        sorted(ends, key=lambda member: ends[member][1]), lambda member: ends[member][1]
    ):
        first, *rest = sorted(members)
        words.append(
            f"{first}, … ({1 + len(rest)})" if len(rest) > 1 else ", ".join(map(str, [first, *rest]))
        )
        heights.append(max(up + 3, _TOP, heights[-1] + _LETTERS if heights else _TOP))
    lowest: float = _BOTTOM
    for index in reversed(range(len(heights))):  # those that would run below the axes move up
        heights[index] = min(heights[index], lowest)
        lowest = heights[index] - _LETTERS
    for text, up in zip(words, heights, strict=True):
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


def _lines(
    by_step: Sequence[Sequence[Entry]],
    ranks: dict[tuple[int, int], float],
    name: str | None,
    start: Sequence[float],
) -> list[Line]:
    """The lines of one panel: level between selections, and from the parent's value where a member was copied.

    Those of scores (no `name`) lead from score to score; a member's first one is a point.
    """
    lines: list[Line] = []
    at = {member: (0, value) for member, value in enumerate(start)}
    for now in by_step:
        before = dict(at)
        for entry in now:
            step, value = entry.step, entry.score if name is None else entry.values[name]
            if value is None:
                continue
            rank, held = ranks[step, entry.member], before.get(entry.member, (step, value))
            lines.append((held, (step, value if name is None else held[1]), rank))
            if entry.parent != entry.member and name is not None:
                lines.append(((step, before[entry.parent][1]), (step, value), rank))
            at[entry.member] = step, value
    return lines
