"""A lineage as a matplotlib figure, for notebooks: what lineage.svg shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from antiphon.jobs.populations.lineage_drawing import (
    LineagePanel,
    colour_of_rank,
    lineage_drawing,
    member_names,
)
from antiphon.jobs.populations.selection import Entry
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.telemetry.plots import empty_figure, panel_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BOLD = "#14191f"
"""Colour of the winner."""
_HIGH = 178
"""Height of a panel, in the units in which names of members are apart."""


def lineage_plot(lineage: Sequence[Entry], spec: PopulationSpec, metric: str | None) -> Figure:
    """Draw a lineage as `lineage_svg` does: lines branch where members are copied, and are coloured by the rank of the score."""
    drawing, figure = lineage_drawing(lineage, spec, metric), empty_figure("plot")
    all_axes = panel_axes(figure, len(drawing.panels), drawing.columns)
    for axes, panel in zip(all_axes, drawing.panels, strict=True):
        _draw(axes, panel)
    colours = "score: orange (lowest) to blue (highest); numbers: members"
    figure.supxlabel("; ".join(filter(None, [colours, drawing.of_bold])), fontsize=8, color="0.4")
    return figure


def _draw(axes: Axes, panel: LineagePanel) -> None:
    from matplotlib.collections import LineCollection

    ranked = sorted(panel.lines, key=lambda line: line[2])  # the best members over all others
    colours = [colour_of_rank(rank) for *_, rank in ranked]
    ends = [(first, last) for first, last, _ in ranked]
    axes.set(title=panel.title, xlabel="step", yscale="log" if panel.log else "linear")
    axes.add_collection(LineCollection(ends, colors=colours, linewidths=1.2, capstyle="round"))
    if panel.winner:
        axes.plot(*zip(*panel.winner, strict=True), color=_BOLD, linewidth=2.6)
    axes.autoscale_view()
    shares = {
        member: axes.transAxes.inverted().transform(axes.transData.transform(end))[1]
        for member, end in panel.ends.items()
    }
    downwards = {member: _HIGH * (1 - share) for member, share in shares.items()}
    for text, height in member_names(downwards, 0, _HIGH):
        axes.text(
            1.02, 1 - height / _HIGH, text, transform=axes.transAxes, fontsize=7, va="center", color="0.4"
        )
