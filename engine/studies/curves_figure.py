"""The learning curves of a study: a panel for each metric and point of the grid, against steps and against seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.engine.studies.figure import styles_of
from antiphon.engine.studies.plan import worded
from antiphon.engine.studies.table import heading
from antiphon.telemetry.pictures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_curves"]

_PANEL = (4.2, 2.8)
"""Inches."""


def draw_curves(study: Mapping[str, Any], path: Path) -> Figure:
    """Draw the mean over seeds of every variant, in a band from the least to the most.

    Args:
        study: Its result.
        path: Where to save it, as SVG.

    Raises:
        RunError: If matplotlib is not installed, or the file cannot be written.
    """
    panels: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for curve in study["curves"]:
        panels.setdefault((_place(study, curve), curve["metric"]), []).append(curve)
    styles = styles_of(study["lines"])
    down = max(len(panels), 1)
    size = (2 * _PANEL[0] + 1.2, _PANEL[1] * down + 0.4)
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
                    axis.plot(times, curve["mean"], label=curve["variant"], color=colour, linewidth=1.2)
                    axis.fill_between(
                        times, curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0
                    )
    for axis, what in zip(grid[-1], ("steps", "seconds"), strict=True):
        axis.set_xlabel(what)
    for axis in grid.flat:
        axis.grid(alpha=0.25, linewidth=0.5)
    entries = {
        name: line for axis in grid.flat for line, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize=8, frameon=False)
    save_figure(figure, path)
    return figure


def _place(study: Mapping[str, Any], curve: Mapping[str, Any]) -> str:
    """Return what tells a panel from others of the same metric, in words."""
    row = [curve["row"]] if study["several"] else []
    return ", ".join([*row, *(f"{axis} {worded(value)}" for axis, value in curve["point"].items())])
