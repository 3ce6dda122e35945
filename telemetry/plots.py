"""Curves of metrics as matplotlib figures, for notebooks: the curves of a report, of one run."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import RunError, ScenarioError
from antiphon.base.files import write_bytes
from antiphon.base.nearest_names import suggest
from antiphon.base.tools import by_key

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f")
"""Okabe and Ito's: told apart with any kind of colour blindness."""
_ACROSS = 3
_POINTS = 20
"""Entries of a curve below which each is a point."""

Curve = tuple[str, str, NDArray[np.int64], NDArray[np.float64]]
"""Name of an agent or channel (empty: the environment or run), metric, steps and values."""


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


def curves_figure(subject: str, curves: Iterable[Curve], below: str = "") -> Figure:
    """Draw curves, a panel for each metric; of more than eight in a panel the mean, and the range behind it.

    Args:
        curves: At least one.
        below: A line below the panels; empty: none.
    """
    figure = empty_figure(subject)
    panels = by_key((curve[1], curve) for curve in curves)
    across = 2 if len(panels) == 4 else min(len(panels), _ACROSS)
    for axes, (metric, panel_curves) in zip(
        panel_axes(figure, len(panels), across), panels.items(), strict=True
    ):
        _draw(axes, panel_curves)
        axes.set(title=metric, xlabel="step")
    if below:
        figure.supxlabel(below, fontsize=8, color="0.4")
    return figure


def _draw(axes: Axes, curves: Sequence[Curve]) -> None:
    if len(curves) <= len(COLOURS):
        for (name, _, steps, values), colour in zip(curves, COLOURS, strict=False):
            axes.plot(
                steps,
                values,
                color=colour,
                label=name,
                linewidth=1.2,
                marker="." if len(steps) < _POINTS else "",
            )
        if any(name for name, *_ in curves):
            axes.legend(fontsize=8, frameon=False)
        return
    every = np.unique(np.concatenate([steps for _, _, steps, _ in curves]))
    table = np.full((len(curves), len(every)), np.nan)
    for row, (_, _, steps, values) in zip(table, curves, strict=True):
        row[np.searchsorted(every, steps)] = values
    measured = ~np.isnan(table).all(0)
    every, table = every[measured], table[:, measured]
    axes.fill_between(
        every, np.nanmin(table, 0), np.nanmax(table, 0), color=COLOURS[0], alpha=0.2, linewidth=0
    )
    axes.plot(every, np.nanmean(table, 0), color=COLOURS[0], label=f"mean of {len(curves)}", linewidth=1.2)
    axes.legend(fontsize=8, frameon=False)


def chosen(
    kind: str, choice: str | Sequence[str] | None, logged: Sequence[str], default: Sequence[str]
) -> list[str]:
    """Return the names or metrics to draw.

    Args:
        choice: The caller's choice; None: those of the default that are known, or all if none is.
        logged: What has been logged.
        default: What is drawn without a choice.
    """
    if choice is None:
        return [name for name in default if name in logged] or list(dict.fromkeys(logged))
    names = [choice] if isinstance(choice, str) else list(choice)
    for name in names:
        if name not in logged:
            raise ScenarioError(f"plot: no {kind} '{name}' is logged{suggest(name, {*logged})}")
    if not names:
        raise ScenarioError(f"plot: no {kind} is chosen; name one, or leave the choice out")
    return names
