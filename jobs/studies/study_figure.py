"""The figure of a study: a line for every variant along an axis of the grid, or the table's lines side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.jobs.studies.plan import worded
from antiphon.jobs.studies.table import FIGURE, described, heading, metric_name
from antiphon.telemetry.plots import COLOURS, empty_figure, panel_axes, save_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "os^Dv<>P"
"""Markers that tell the variants apart in print, where colours do not."""
_ACROSS = 3
_MOST_TICKS = 10
_LEVEL = 4
"""Most lines of a table whose names stand level below the axis."""
_BESIDE = 0.6
"""The share of the way from word to word over which the variants stand side by side."""
_MARGIN = 0.08
"""The share of an axis that is left free at each end, so that no marker is on the frame."""
_FAINT = 0.4
"""Opacity of the points of single seeds, behind their mean."""


def draw_figure(study: Mapping[str, Any], path: Path | None = None) -> Figure:
    """Draw the figure of a study, with its intervals and the single seeds as faint points: a panel for each metric and point of the other axes.

    Args:
        path: An SVG that it is written to; None: it is returned only.
    """
    x, figure = study["x"], empty_figure(FIGURE)
    figure.suptitle(heading(study), fontsize=10)
    panels: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in study["lines"]:
        rest = {axis: value for axis, value in line["point"].items() if axis != x}
        title = "" if x is None else ", ".join(f"{axis} {worded(value)}" for axis, value in rest.items())
        panels.setdefault((line["metric"], title), []).append(line)
    across = min(len({title for _, title in panels}), _ACROSS)
    all_axes = panel_axes(figure, len(panels), across, height=3.4)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + 1.2, height + 0.3)  # for the legend and the title
    looks = {"markersize": 4, "linewidth": 1.2, "capsize": 2}
    styles = {  # by variant
        name: {"color": COLOURS[i % len(COLOURS)], "marker": _MARKERS[i % len(_MARKERS)], **looks}
        for i, name in enumerate(dict.fromkeys(line["variant"] for line in study["lines"]))
    }
    for axes, ((_, title), lines) in zip(all_axes, panels.items(), strict=True):
        axes.set_title(title, fontsize=9)
        _draw(axes, x, lines, styles)
    if x is not None or len(styles) < max(
        len(lines_of_panel) for lines_of_panel in panels.values()
    ):  # else the axis has the names
        handles, names = all_axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", fontsize=8, frameon=False)
    if path is not None:
        save_svg(figure, path)
    return figure


def _draw(
    axes: Axes, x: str | None, lines: Sequence[Mapping[str, Any]], styles: Mapping[str, Mapping[str, Any]]
) -> None:
    """Draw the metric along the axis x, or by line of the table, a line for every variant; words stand side by side."""

    def position_of(line: Mapping[str, Any]) -> Any:
        return described(line) if x is None else line["point"][x]

    positions = list(dict.fromkeys(map(position_of, lines)))
    words = any(isinstance(position, bool) or not isinstance(position, int | float) for position in positions)
    at = dict(zip(positions, range(len(positions)) if words else positions, strict=True))
    for rank, (variant, style) in enumerate(styles.items()):
        aside = _BESIDE * ((rank + 0.5) / len(styles) - 0.5) if words and x is not None else 0.0
        shown = [line for line in lines if line["variant"] == variant and line["mean"]]
        factor = 100 if all(line["share"] for line in shown) else 1  # a share is drawn in per cent
        means = [line["mean"] for line in shown]
        values = [factor * mean["value"] for mean in means]
        below = [0.0 if m["low"] is None else factor * (m["value"] - m["low"]) for m in means]
        above = [0.0 if m["high"] is None else factor * (m["high"] - m["value"]) for m in means]
        look = {**style, "label": variant, "linestyle": "none" if words else "-"}
        where = [aside + at[position_of(line)] for line in shown]
        axes.errorbar(where, values, yerr=(below, above), **look)
        for across, line in zip(where, shown, strict=True):
            seeds = [factor * value for value in line["values"]]
            axes.scatter([across] * len(seeds), seeds, s=9, color=style["color"], alpha=_FAINT)
    axes.margins(_MARGIN)
    if words:  # each has a place as wide as the others', also where there are two
        axes.set_xlim(-0.5, len(positions) - 0.5)
    axes.set(xlabel=x or "", ylabel=metric_name(lines))
    if words or len(at) <= _MOST_TICKS:
        axes.set_xticks(list(at.values()), [worded(value) for value in at])
    if x is None:
        level = len(positions) <= _LEVEL
        axes.tick_params("x", rotation=0 if level else 90, labelsize=8)
