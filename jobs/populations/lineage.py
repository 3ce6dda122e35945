"""The picture of a lineage: the members' scores and values over steps, as in figure 6 of Jaderberg et al. 2017."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from antiphon.jobs.populations.selection import Entry, in_words, initial_values, quality
from antiphon.scenarios.population_spec import PopulationSpec, RangeSpec
from antiphon.telemetry.plots import empty_figure, panel_axes, save_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Point = tuple[int, float]
"""A step, and a score or value."""
_STEP = attrgetter("step")
_COLUMNS = 3


def draw_lineage(
    lineage: Sequence[Entry], spec: PopulationSpec, metric: str | None, path: Path | None = None
) -> Figure:
    """Draw a panel for the scores and for each parameter that varies: a line for each member, which branches where it is copied.

    Lines are coloured by the rank of the member's score, from red (worst) to blue (best).

    Args:
        path: An SVG file that is written; None: none is.

    Raises:
        RunError: matplotlib is not installed.
    """
    figure = empty_figure("plot")
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    entries = sorted(lineage, key=_STEP)
    ranks: dict[tuple[int, int], float] = {}
    for step, at_step in groupby(entries, key=_STEP):
        order = sorted(at_step, key=lambda entry: quality(entry.score, metric))
        ranks |= {(step, entry.member): n / max(1, len(order) - 1) for n, entry in enumerate(order)}
    entries.sort(key=lambda entry: (entry.step, ranks[entry.step, entry.member]))  # the best over all others
    names: list[str | None] = [None, *spec.vary]
    for axes, name in zip(panel_axes(figure, len(names), min(len(names), _COLUMNS)), names, strict=True):
        lines = list(_lines(entries, None if name is None else initial_values(spec), name))
        colours = colormaps["coolwarm_r"]([ranks[entry.step, entry.member] for entry, _ in lines])
        axes.add_collection(LineCollection([line for _, line in lines], colors=colours, linewidths=1.2))
        within = None if name is None else spec.vary[name]
        log = isinstance(within, RangeSpec) and within.log
        axes.set(title=name or in_words(metric), xlabel="step", yscale="log" if log else "linear")
        axes.autoscale_view()
    figure.supxlabel("score: red (worst) to blue (best)", fontsize=8, color="0.4")
    if path is not None:
        save_svg(figure, path)
    return figure


def _lines(
    entries: Sequence[Entry], start: Sequence[dict[str, float]] | None, name: str | None
) -> Iterator[tuple[Entry, list[Point]]]:
    """Yield the lines of a panel: level between selections, and from the parent's value where a member was copied.

    Those of scores (no `name`) lead from score to score.
    """
    at = {} if name is None else {n: (0, values[name]) for n, values in enumerate(start or ())}
    for step, at_step in groupby(entries, key=_STEP):
        before: dict[int, Point] = dict(at)
        for entry in at_step:
            value = entry.score if name is None else entry.next_values[name]
            if value is None:
                continue
            held = before.get(entry.member, (step, value))
            yield entry, [held, (step, value if name is None else held[1])]
            if entry.copied and name is not None:
                yield entry, [(step, before[entry.parent][1]), (step, value)]
            at[entry.member] = step, value
