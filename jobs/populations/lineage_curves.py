"""A lineage as a matplotlib figure, for notebooks: the panels of lineage.svg."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from antiphon.jobs.populations.selection import in_words
from antiphon.telemetry.plots import Curve, curves_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BOLD = "#14191f"
"""Colour of the winner beside a mean."""
_DECADE = 10
"""Times of its smallest value from which a parameter has a logarithmic axis."""


def lineage_curves(lineage: Sequence[Mapping[str, Any]], metric: str | None, winner: int | None) -> Figure:
    """Draw the scores of a population's members, and each parameter that varies, over steps.

    A member's value is level between selections, and changes where it is copied.

    Args:
        lineage: By member and selection, in order: `step`, `member`, `score`, `values` and `next_values`.
        metric: Of the scores.
        winner: The member that is drawn bold; None: none is.

    Raises:
        RunError: matplotlib is not installed.
    """
    curves = list(_curves(lineage, in_words(metric)))
    figure = curves_figure("plot", curves)
    for axes in figure.axes[1:]:
        values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
        if values.min() > 0 and values.max() >= _DECADE * values.min():
            axes.set_yscale("log")
    panels = {axes.get_title(): axes for axes in figure.axes}
    for name, title, steps, values in curves:
        if name == f"member {winner}":
            drawn = {line.get_label(): line for line in panels[title].lines}  # of many only their mean is
            line = drawn.get(name) or panels[title].plot(steps, values, color=_BOLD)[0]
            line.set(linewidth=2.6, label=f"{name}, the winner")
            panels[title].legend(fontsize=8, frameon=False)
    return figure


def _curves(lineage: Sequence[Mapping[str, Any]], scores: str) -> Iterator[Curve]:
    members: dict[int, list[Mapping[str, Any]]] = {}
    for row in lineage:
        members.setdefault(row["member"], []).append(row)
    for member, rows in sorted(members.items()):
        scored = [row for row in rows if row["score"] is not None]
        steps, values = ([row[key] for row in scored] for key in ("step", "score"))
        yield f"member {member}", scores, np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)
    for name in lineage[0]["values"] if lineage else ():
        for member, rows in sorted(members.items()):
            ends = [0, *(step for row in rows for step in (row["step"], row["step"]))]
            values = [value for row in rows for value in (row["values"][name],) * 2]
            values += [rows[-1]["next_values"][name]]
            yield f"member {member}", name, np.array(ends, dtype=np.int64), np.array(values, dtype=np.float64)
