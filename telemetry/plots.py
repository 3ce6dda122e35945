"""Figures of matplotlib: curves of metrics, and what all figures share."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import RunError
from antiphon.base.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f")
"""Okabe and Ito's: told apart with any kind of colour blindness."""
_ACROSS = 3
_POINTS = 20
"""Entries of a curve below which each is a point."""

Curve = tuple[str, NDArray[np.int64], NDArray[np.float64]]
"""Name of an agent or channel (empty: the environment or run), steps and values."""


def empty_figure(subject: str) -> Figure:
    """Return an empty figure on white."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RunError(f"{subject} needs matplotlib: pip install 'antiphon[plots]'") from error
    return Figure(facecolor="white", layout="constrained")


def panel_axes(figure: Figure, count: int, across: int, *, height: float = 3.0) -> list[Axes]:
    """Return the axes of so many panels, each with faint lines behind it; `height`: of a panel, in inches."""
    down = -(-count // across)
    figure.set_size_inches(4.2 * across, height * down)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for unused in axes[count:]:
        unused.remove()
    for panel in axes[:count]:
        panel.grid(alpha=0.25, linewidth=0.5)
    return axes[:count]


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure as an SVG file that has the same bytes each time."""
    from matplotlib import rc_context

    content = io.BytesIO()
    with rc_context({"svg.hashsalt": "antiphon"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    write_bytes(path, content.getvalue())


def curves_figure(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Draw the curves of each metric in a panel of its own, with a legend where there are few."""
    figure = empty_figure("plot")
    panels = panel_axes(figure, len(curves), min(len(curves), _ACROSS))
    for axes, (metric, of_metric) in zip(panels, curves.items(), strict=True):
        for name, steps, values in of_metric:
            axes.plot(steps, values, label=name, linewidth=1.2, marker="." if len(steps) < _POINTS else "")
        if len(of_metric) <= len(COLOURS) and any(name for name, *_ in of_metric):
            axes.legend(fontsize=8, frameon=False)
        axes.set(title=metric, xlabel="step")
    return figure
