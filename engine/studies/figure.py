"""The figure of a study: a line for every variant along an axis of the grid, or the lines of the table as points."""

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

__all__ = ["described", "draw_figure", "styles_of"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f")
"""Okabe and Ito's: told apart with any kind of colour blindness; shapes of markers tell them apart in print."""
_MARKERS = "os^Dv<>P"
_PANEL = (4.2, 3.4)
_ACROSS = 3
_ROW_HEIGHT = 0.24
"""Sizes in inches."""
_MOST_TICKS = 10
_BESIDE = 0.6
"""Over how much of the way from word to word the variants stand side by side."""


def draw_figure(study: Mapping[str, Any], path: Path) -> Figure:
    """Draw the figure of a study with its intervals; what papers report is drawn hollow.

    Args:
        study: Its result.
        path: Where to save it, as SVG.

    Raises:
        RunError: If matplotlib is not installed, or the file cannot be written.
    """
    figure = new_figure("figure.svg", layout="constrained")
    styles = styles_of(study["lines"])
    figure.suptitle(heading(study), fontsize=10)
    if study["x"] is None:
        _draw_points(figure, study, styles)
    else:
        _draw_metrics(figure, study, styles)
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
    entries = {
        key: handle
        for axes in figure.axes
        for handle, key in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize=8, frameon=False)


def _panels(study: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the lines of each panel by its title: all that differ in variant and x alone."""
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for line in study["lines"]:
        if study["x"] in line["point"]:
            rest = {axis: value for axis, value in line["point"].items() if axis != study["x"]}
            words = [line["row"]] if study["several"] else []
            words += [f"{axis} {worded(value)}" for axis, value in rest.items()]
            panels.setdefault(", ".join(words), []).append(line)
    return panels


def _draw_lines(
    axes: Axes,
    study: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    styles: Mapping[str, Mapping[str, Any]],
) -> None:
    factor = 100 if is_share(study) else 1
    at, numbers = _places(study["x"], lines)

    def draw(some: Sequence[Mapping[str, Any]], figures: Sequence[float], **look: Any) -> None:
        axes.errorbar([aside + at[_key(study["x"], line)] for line in some], figures, **look)

    for rank, (variant, style) in enumerate(styles.items()):
        aside = 0.0 if numbers else _BESIDE * ((rank + 0.5) / len(styles) - 0.5)
        ours = [line for line in lines if line["variant"] == variant and line["ours"]]
        errors = _errors([line["ours"] for line in ours], factor)
        look = {"label": variant, "markersize": 4, "linewidth": 1.2, "capsize": 2, **style}
        look |= {} if numbers else {"linestyle": "none"}  # between words there is nothing
        draw(ours, [factor * line["ours"]["value"] for line in ours], yerr=errors, **look)
        paper = [line for line in lines if line["variant"] == variant and line["paper"]]
        if paper:
            look = {"linestyle": "none", "markerfacecolor": "none", "markersize": 7, **style}
            figures = [factor * line["paper"]["value"] for line in paper]
            draw(paper, figures, label=f"{variant} (paper)", **look)
    axes.set_xlabel(study["x"])
    if len(at) <= _MOST_TICKS:
        axes.set_xticks(list(at.values()), [worded(json.loads(key)) for key in at])
    axes.grid(alpha=0.25, linewidth=0.5)


def _key(x: str, line: Mapping[str, Any]) -> str:
    return json.dumps(line["point"][x])


def _places(x: str, lines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], bool]:
    """Return where the values of an axis stand, and whether they are numbers; words stand one after the other."""
    values = {_key(x, line): line["point"][x] for line in lines}
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())
    places = {key: float(value) if numbers else rank for rank, (key, value) in enumerate(values.items())}
    return places, numbers


def _draw_points(figure: Figure, study: Mapping[str, Any], styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the lines of the table one under the other, and the metrics side by side."""
    metrics = views(study)
    figure.set_size_inches(2.6 + 3.8 * len(metrics), 1.2 + _ROW_HEIGHT * len(study["lines"]))
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
                look = {"linestyle": "none", "markerfacecolor": "none", "markersize": 7, **style}
                axes.plot([factor * line["paper"]["value"]], [height], **look)
        hollow = " (hollow: paper)" if any(line["paper"] for line in view["lines"]) else ""
        axes.set_xlabel(metric_name(view) + hollow)
        axes.grid(alpha=0.25, linewidth=0.5)
    lines = study["lines"]
    grid[0].set_yticks(range(len(lines)), [described(study, line) for line in lines], fontsize=8)
    grid[0].invert_yaxis()


def described(study: Mapping[str, Any], line: Mapping[str, Any]) -> str:
    """Return a line of the table in words."""
    row = [line["row"]] if study["several"] else []
    return " ".join(
        [*row, *(f"{axis}={worded(value)}" for axis, value in line["point"].items()), line["variant"]]
    )


def _errors(estimates: Sequence[Mapping[str, Any]], factor: float) -> tuple[list[float], list[float]]:
    """Return how far intervals reach below and above their middles; nothing where there is none."""
    below = [factor * (e["value"] - e["low"]) if e["low"] is not None else 0.0 for e in estimates]
    above = [factor * (e["high"] - e["value"]) if e["high"] is not None else 0.0 for e in estimates]
    return below, above
