"""The figures of a study: a line for every variant along an axis of the grid or the table's lines as points, and curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.engine.studies.plan import worded
from antiphon.engine.studies.table import heading, is_share, metric_name, views
from antiphon.telemetry.pictures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["described", "draw_curves", "draw_figure", "styles_of"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f")
"""Okabe and Ito's: told apart with any kind of colour blindness; shapes of markers tell them apart in print."""
_MARKERS = "os^Dv<>P"
_PANEL = (4.2, 3.4)
_CURVES_PANEL = (4.2, 2.8)
_ROW_HEIGHT = 0.24
"""Sizes in inches."""
_HOLLOW = {"linestyle": "none", "markerfacecolor": "none", "markersize": 7}
"""What a paper reports."""
_ACROSS = 3
_MOST_TICKS = 10
_BESIDE = 0.6
"""Over how much of the way from word to word the variants stand side by side."""


def draw_figure(study: Mapping[str, Any], path: Path | None = None) -> Figure:
    """Draw the figure of a study, with its intervals; what papers report is drawn hollow.

    Args:
        study: Its result.
        path: An SVG that it is written to; None: it is returned only.

    Raises:
        RunError: matplotlib is not installed, or the file cannot be written.
    """
    figure = new_figure("figure.svg", layout="constrained")
    figure.suptitle(heading(study), fontsize=10)
    draw = _draw_points if study["x"] is None else _draw_metrics
    draw(figure, study, styles_of(study["lines"]))
    if path is not None:
        save_figure(figure, path)
    return figure


def styles_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return colour and marker of every variant."""
    variants = dict.fromkeys(line["variant"] for line in lines)
    return {
        name: {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)]}
        for i, name in enumerate(variants)
    }


def _draw_metrics(figure: Figure, study: Mapping[str, Any], styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the panels of each metric under those of the one before."""
    metrics = views(study)
    panels = [_panels(view) for view in metrics]
    across = min(math.isqrt(len(panels[0]) - 1) + 1, _ACROSS)
    down = -(-len(panels[0]) // across)
    figure.set_size_inches(_PANEL[0] * across + 1.2, _PANEL[1] * down * len(metrics) + 0.3)
    parts = figure.subfigures(len(metrics), 1, squeeze=False)[:, 0]
    for part, view, of_view in zip(parts, metrics, panels, strict=True):
        grid = part.subplots(down, across, squeeze=False, sharey=True)
        for axes, (title, lines) in zip(grid.flat, of_view.items(), strict=False):
            axes.set_title(title, fontsize=9)
            _draw_lines(axes, view, lines, styles)
        for axes in list(grid.flat)[len(of_view) :]:
            axes.remove()
        for axes in grid[:, 0]:
            axes.set_ylabel(metric_name(view))
    _add_legend(figure)


def _panels(study: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the lines of each panel by its title: all that differ in variant and x alone."""
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for line in study["lines"]:
        if study["x"] in line["point"]:
            rest = {axis: value for axis, value in line["point"].items() if axis != study["x"]}
            panels.setdefault(_title(study, line["row"], rest), []).append(line)
    return panels


def _title(study: Mapping[str, Any], row: str, point: Mapping[str, Any]) -> str:
    """Return what tells a panel from others of the same metric, in words."""
    words = [row] if study["several"] else []
    return ", ".join([*words, *(f"{axis} {worded(value)}" for axis, value in point.items())])


def _add_legend(figure: Figure) -> None:
    """Add one legend for all panels."""
    pairs = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    entries = {name: handle for handle, name in pairs}
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize=8, frameon=False)


def _draw_lines(
    axes: Axes,
    study: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    styles: Mapping[str, Mapping[str, Any]],
) -> None:
    factor = 100 if is_share(study) else 1
    values = {_key(study["x"], line): line["point"][study["x"]] for line in lines}
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())
    # Words stand one after the other.
    at = {key: float(value) if numbers else rank for rank, (key, value) in enumerate(values.items())}
    for rank, (variant, style) in enumerate(styles.items()):
        aside = 0.0 if numbers else _BESIDE * ((rank + 0.5) / len(styles) - 0.5)
        own = [line for line in lines if line["variant"] == variant]
        ours = [line for line in own if line["ours"]]
        paper = [line for line in own if line["paper"]]
        look = {"label": variant, "markersize": 4, "linewidth": 1.2, "capsize": 2, **style}
        look |= {} if numbers else {"linestyle": "none"}  # between words there is nothing
        look["yerr"] = _errors([line["ours"] for line in ours], factor)
        hollow = {"label": f"{variant} (paper)", **_HOLLOW, **style}
        for kind, some, settings in (("ours", ours, look), ("paper", paper, hollow)):
            if some or kind == "ours":
                places = [aside + at[_key(study["x"], line)] for line in some]
                axes.errorbar(places, [factor * line[kind]["value"] for line in some], **settings)
    axes.set_xlabel(study["x"])
    if len(at) <= _MOST_TICKS:
        axes.set_xticks(list(at.values()), [worded(json.loads(key)) for key in at])
    axes.grid(alpha=0.25, linewidth=0.5)


def _key(x: str, line: Mapping[str, Any]) -> str:
    return json.dumps(line["point"][x])


def _draw_points(figure: Figure, study: Mapping[str, Any], styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the lines of the table one under the other, and the metrics side by side."""
    metrics, lines = views(study), study["lines"]
    figure.set_size_inches(2.6 + 3.8 * len(metrics), 1.2 + _ROW_HEIGHT * len(lines))
    grid = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, view in zip(grid, metrics, strict=True):
        factor = 100 if is_share(view) else 1
        for height, line in enumerate(view["lines"]):
            style = styles[line["variant"]]
            if line["ours"]:
                errors = _errors([line["ours"]], factor)
                look = {"markersize": 5, "capsize": 2, "linestyle": "none", **style}
                axes.errorbar([factor * line["ours"]["value"]], [height], xerr=errors, **look)
            if line["paper"]:
                axes.plot([factor * line["paper"]["value"]], [height], **_HOLLOW, **style)
        hollow = " (hollow: paper)" if any(line["paper"] for line in view["lines"]) else ""
        axes.set_xlabel(metric_name(view) + hollow)
        axes.grid(alpha=0.25, linewidth=0.5)
    grid[0].set_yticks(range(len(lines)), [described(study, line) for line in lines], fontsize=8)
    grid[0].invert_yaxis()


def described(study: Mapping[str, Any], line: Mapping[str, Any]) -> str:
    """Return a line of the table in words."""
    row = [line["row"]] if study["several"] else []
    values = [f"{axis}={worded(value)}" for axis, value in line["point"].items()]
    return " ".join([*row, *values, line["variant"]])


def _errors(estimates: Sequence[Mapping[str, Any]], factor: float) -> tuple[list[float], list[float]]:
    """Return how far intervals reach below and above their middles; nothing where there is none."""
    below = [factor * (e["value"] - e["low"]) if e["low"] is not None else 0.0 for e in estimates]
    above = [factor * (e["high"] - e["value"]) if e["high"] is not None else 0.0 for e in estimates]
    return below, above


def draw_curves(study: Mapping[str, Any], path: Path) -> Figure:
    """Draw the learning curves, an SVG: a panel for each metric and point of the grid, against steps and against seconds.

    The mean over seeds of every variant, in a band from the least to the most. RunError as of `draw_figure`.
    """
    panels: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for curve in study["curves"]:
        place = _title(study, curve["row"], curve["point"])
        panels.setdefault((place, curve["metric"]), []).append(curve)
    styles = styles_of(study["lines"])
    down = max(len(panels), 1)
    size = (2 * _CURVES_PANEL[0] + 1.2, _CURVES_PANEL[1] * down + 0.4)
    figure = new_figure("curves.svg", layout="constrained", figsize=size)
    figure.suptitle(f"{heading(study)}; training", fontsize=10)
    grid = figure.subplots(down, 2, squeeze=False, sharey="row", sharex="col")
    for axes, ((place, metric), curves) in zip(grid, panels.items(), strict=False):
        axes[0].set(ylabel=metric)
        axes[0].set_title(place, fontsize=9)
        for curve in curves:
            colour = styles[curve["variant"]]["color"]
            for axis, times in zip(axes, (curve["steps"], curve["seconds"]), strict=True):
                if times is not None:
                    low, high = curve["low"], curve["high"]
                    axis.plot(times, curve["mean"], label=curve["variant"], color=colour, linewidth=1.2)
                    axis.fill_between(times, low, high, color=colour, alpha=0.15, linewidth=0)
    for axis, what in zip(grid[-1], ("steps", "seconds"), strict=True):
        axis.set_xlabel(what)
    for axis in grid.flat:
        axis.grid(alpha=0.25, linewidth=0.5)
    _add_legend(figure)
    save_figure(figure, path)
    return figure
