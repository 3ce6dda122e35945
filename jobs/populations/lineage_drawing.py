"""What a drawing of a lineage shows: a line for each member, branching where it is copied, by the rank of its score, and the winner.

lineage_figure.py draws it as SVG, lineage_plot.py with matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from antiphon.jobs.populations.selection import Entry, ancestry, in_words, initial_values, quality
from antiphon.scenarios.population_spec import PopulationSpec, RangeSpec

Line = tuple[tuple[int, float], tuple[int, float], float]
"""Its two ends as step and value, and the score of the member at the second, ranked from 0 (worst) to 1."""

_STEP = attrgetter("step")
_ACROSS = 3
"""Most panels side by side."""
_NAMED = 24
"""Most members that are named."""
_LETTERS = 9
"""Least distance between the names of members."""
_DECADE = 10
_COLOURS = (222, 126, 40), (158, 163, 168), (47, 109, 181)
"""Colours of the worst, the middle and the best member, which are told apart on white and on black, and by all eyes."""


@dataclass(frozen=True)
class LineagePanel:
    """The scores of members over steps, or their values of a parameter.

    Attributes:
        winner: Steps and values between which the winner is drawn, from its beginning, through the members it was copied from.
        ends: By member, its newest step and value.
        log: Whether the axis of values is logarithmic.
    """

    title: str
    lines: Sequence[Line]
    winner: Sequence[tuple[int, float]]
    ends: Mapping[int, tuple[int, float]]
    log: bool


@dataclass(frozen=True)
class LineageDrawing:
    """A lineage's panels: the scores, then each parameter that varies.

    Attributes:
        winner: The member with the best newest score; None: none has been scored.
    """

    winner: int | None
    panels: Sequence[LineagePanel]

    @property
    def columns(self) -> int:
        """How many panels are side by side."""
        return 2 if len(self.panels) == 4 else min(len(self.panels), _ACROSS)

    @property
    def of_bold(self) -> str:
        """The legend of the bold line; empty where there is none."""
        return "" if self.winner is None else f"bold: the winner, member {self.winner}, from its beginning"


def lineage_drawing(lineage: Sequence[Entry], spec: PopulationSpec, metric: str | None) -> LineageDrawing:
    """Return what a drawing of a lineage shows; `metric`: of the scores."""
    by_step = [list(group) for _, group in groupby(sorted(lineage, key=_STEP), key=_STEP)]
    ranks: dict[tuple[int, int], float] = {}  # by step and member, from 0 (worst score of the step) to 1
    for now in by_step:
        order = sorted(now, key=lambda entry: quality(entry.score, metric))
        ranks |= {(entry.step, entry.member): n / max(1, len(order) - 1) for n, entry in enumerate(order)}
    initial, stages = initial_values(spec), ancestry(spec, lineage, metric)
    entries = [entry for now in by_step for entry in now]
    scored = [(stage.step, stage.entry.score) for stage in stages if stage.entry is not None]
    path = [(step, score) for step, score in scored if score is not None]
    scores = {entry.member: (entry.step, entry.score) for entry in entries if entry.score is not None}
    newest = {entry.member: entry for entry in entries}.values()
    panels = [LineagePanel(in_words(metric), _lines(by_step, ranks, None, ()), path, scores, log=False)]
    starts = [0, *(stage.step for stage in stages)]
    for name, within in spec.vary.items():
        path = [
            (end, stage.values[name])
            for start, stage in zip(starts, stages, strict=False)
            for end in (start, stage.step)
        ]
        lines = _lines(by_step, ranks, name, [values[name] for values in initial])
        ends = {entry.member: (entry.step, entry.values[name]) for entry in newest}
        panels.append(LineagePanel(name, lines, path, ends, log=_over_decades(within)))
    return LineageDrawing(stages[-1].member if stages else None, panels)


def colour_of_rank(rank: float) -> str:
    """Return the colour of a rank from 0 (worst) to 1."""
    first = min(int(2 * rank), 1)
    pairs = zip(_COLOURS[first], _COLOURS[first + 1], strict=True)
    mixed = (round(start + (2 * rank - first) * (end - start)) for start, end in pairs)
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def member_names(
    ends: Mapping[int, float], top: float, bottom: float, *, below: float = 0.0
) -> Iterator[tuple[str, float]]:
    """Yield the numbers of members and the heights of their names, from the top down and apart from each other.

    Args:
        ends: By member, the height of its line's end, which grows downwards; one unit is a pixel.
        below: How far below the end a name is.
    """
    if len(ends) > _NAMED:
        return
    words, heights = [], list[float]()
    for up, members in groupby(sorted(ends, key=lambda member: ends[member]), lambda member: ends[member]):
        first, *rest = sorted(members)
        words.append(
            f"{first}, … ({1 + len(rest)})" if len(rest) > 1 else ", ".join(map(str, [first, *rest]))
        )
        heights.append(max(up + below, top, heights[-1] + _LETTERS if heights else top))
    lowest = bottom
    for index in reversed(range(len(heights))):  # those that would run below the axes move up
        heights[index] = min(heights[index], lowest)
        lowest = heights[index] - _LETTERS
    yield from zip(words, heights, strict=True)


def _over_decades(vary: RangeSpec | tuple[float, ...]) -> bool:
    """Return whether values have a logarithmic axis: those of a range with `log`, or a list that spans a decade or more."""
    if isinstance(vary, RangeSpec):
        return vary.log
    return min(vary) > 0 and max(vary) >= _DECADE * min(vary)


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
