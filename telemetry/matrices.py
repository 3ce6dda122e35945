"""Pictures of numbers by agent: matrices side by side, profiles along the agents, clouds of points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.pictures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_clouds", "draw_matrices", "draw_profiles"]

Array = NDArray[np.float64]

_INK = "#22303c"
_COLOURS = ("#3f78b5", "#f2a33a", "#129a86", "#8e4fa8", "#c8453b")
_PANELS = 36
"""Panels in one picture, at most."""
_COLUMNS = 6
_SIDE = 2.0
"""Of a panel, in inches."""
_POINTS = 4000
"""In one cloud, at most."""


def draw_matrices(
    matrices: Mapping[str, Array],
    path: str | Path | None = None,
    *,
    low: float = 0.0,
    high: float = 1.0,
    names: Sequence[str] = (),
    boundaries: Sequence[float] = (),
) -> Figure:
    """Draw matrices as squares of colour beside each other, all on one scale.

    Args:
        matrices: By title, [rows, columns]; the first 36 are drawn.
        path: Where to save the picture, if anywhere; its suffix is the format (`.png`, `.svg`, `.pdf`).
        low: Value of the darkest colour.
        high: Value of the brightest colour.
        names: Of rows and columns; empty: not written.
        boundaries: Rows before which a new group begins: thin lines are drawn there.

    Raises:
        RunError: If matplotlib is not installed, or the file cannot be written.
    """
    shown = dict(list(matrices.items())[:_PANELS])
    side = _SIDE if len(shown) > 1 else 4.0
    figure, panels = _panels(len(shown), side)
    for axes, (title, matrix) in zip(panels, shown.items(), strict=True):
        image = axes.imshow(matrix, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
        axes.set_title(title, fontsize=9, color=_INK, parse_math=False)
        for line in boundaries:
            axes.axhline(line - 0.5, color="white", linewidth=0.4)
            axes.axvline(line - 0.5, color="white", linewidth=0.4)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    figure.colorbar(image, ax=panels, shrink=0.6)
    return _saved(figure, path)


def draw_profiles(
    profiles: Mapping[str, Mapping[str, float]],
    path: str | Path | None = None,
    *,
    label: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Figure:
    """Draw one number per agent as a line along the agents, a line for each kind of number.

    Args:
        profiles: By the line's name, by agent.
        path: Where to save the picture, if anywhere.
        label: Of the numbers.
        low: Lower end of their axis; None: as they are.
        high: Upper end.

    Raises:
        RunError: If matplotlib is not installed, or the file cannot be written.
    """
    agents = list(dict.fromkeys(agent for profile in profiles.values() for agent in profile))
    figure, (axes,) = _panels(1, 3.2, width=min(max(4.0, 0.32 * len(agents) + 1.5), 16.0))
    for number, (name, profile) in enumerate(profiles.items()):
        places = [agents.index(agent) for agent in profile]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(places, list(profile.values()), marker="o", markersize=3, color=colour, label=name)
    axes.set_xticks(range(len(agents)), agents, rotation=90, fontsize=7, parse_math=False)
    axes.set_ylabel(label, color=_INK)
    axes.margins(y=0.1)
    axes.set_ylim(low, high)
    axes.grid(color="#dfe5ea", linewidth=0.6)
    legend = axes.legend(frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return _saved(figure, path)


def draw_clouds(
    clouds: Mapping[str, tuple[Array, Array]],
    path: str | Path | None = None,
    *,
    across: str = "",
    up: str = "",
) -> Figure:
    """Draw pairs of numbers as points, a panel for each title, with the line on which the two are equal.

    Args:
        clouds: By title, the numbers across and up, of one shape; the first 36 are drawn, 4,000 points of each.
        path: Where to save the picture, if anywhere.
        across: Label of the first numbers.
        up: Label of the second.

    Raises:
        RunError: If matplotlib is not installed, or the file cannot be written.
    """
    shown = dict(list(clouds.items())[:_PANELS])
    figure, panels = _panels(len(shown), _SIDE if len(shown) > 1 else 4.0)
    for axes, (title, (x, y)) in zip(panels, shown.items(), strict=True):
        stride = max(1, math.ceil(x.size / _POINTS))
        axes.scatter(
            x.ravel()[::stride], y.ravel()[::stride], s=3, color=_COLOURS[0], linewidths=0, alpha=0.5
        )
        axes.axline((0, 0), slope=1, color=_INK, linewidth=0.6)
        axes.set_title(title, fontsize=9, color=_INK, parse_math=False)
        axes.tick_params(labelsize=7)
    figure.supxlabel(across, fontsize=9, color=_INK)
    figure.supylabel(up, fontsize=9, color=_INK)
    return _saved(figure, path)


def _panels(count: int, side: float, *, width: float | None = None) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, rows of at most six."""
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    size = (width or side * columns + 1.0, side * rows + 0.4)
    figure = new_figure("a picture of matrices or profiles", figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in panels[count:]:
        spare.set_axis_off()
    return figure, list(panels[:count])


def _saved(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        save_figure(figure, path)
    return figure
