"""Pictures by matplotlib, the same bytes every time: the graph of a scenario, and numbers by agent as matrices side by
side, profiles along the agents, clouds of points. Loads without matplotlib.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from antiphon.errors import RunError
from antiphon.files import write_bytes
from antiphon.telemetry.placement import Arrow, Placement, arrows, extent, label_size, place

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    _Dashes = tuple[float, tuple[float, ...]] | Literal["solid"]

__all__ = [
    "INK",
    "draw_graph",
    "new_figure",
    "save_figure",
]


def new_figure(what: str, **settings: Any) -> Figure:
    """Return an empty figure on white, with settings of matplotlib's `Figure`; `what` names it in the error.

    Raises:
        RunError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RunError(f"{what} needs matplotlib: pip install 'antiphon[plots]'") from error
    return Figure(facecolor="white", **settings)


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 150) -> None:
    """Write a figure in the format of the file's suffix (`.png`, `.svg`, `.pdf`), whole or not at all.

    Raises:
        RunError: The file cannot be written, or what is there is no regular file.
    """
    from matplotlib import rc_context

    path, content = Path(path), io.BytesIO()
    kind = path.suffix.removeprefix(".") or None
    with rc_context({"svg.hashsalt": "antiphon"}):
        figure.savefig(content, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None)
    write_bytes(path, content.getvalue())


INK = "#22303c"
_PAD = 0.25
_KEY_WIDTH = 1.45
_KEY_HEIGHT = 0.25
"""The space around the drawing, and of one key of the legend, in inches."""


class _Disc(NamedTuple):
    fill: str
    edge: str
    text: str


class _Line(NamedTuple):
    colour: str
    dashes: tuple[float, ...]
    """Lengths of dash and gap, in units of the line's width; empty for a solid line."""
    width: float


_ROLES: Mapping[str, _Disc] = {
    "readout": _Disc("#f2a33a", "#b36b00", "#3d2500"),
    "agent": _Disc("#3f78b5", "#28527f", "#ffffff"),
    "frozen": _Disc("#dfe5ea", "#8b98a5", "#4a5763"),
}
_COUPLINGS: Mapping[str, _Line] = {
    "locked": _Line("#22303c", (), 2.0),
    "delayed": _Line("#8e4fa8", (5.0, 1.6, 1.0, 1.6), 1.5),
    "detached": _Line("#8b98a5", (1.0, 1.8), 1.5),
    "decoupled": _Line("#129a86", (), 1.3),
}
_OTHER_COUPLING = _Line("#c8453b", (4.0, 2.0), 1.5)


def draw_graph(graph: nx.MultiDiGraph[str], path: str | Path | None = None) -> Figure:
    """Draw agents and channels: discs coloured by role, arrows coloured and dashed by coupling, a legend.

    A graph without cycles runs from left to right; others are laid out by springs. The same graph always
    gives the same picture.

    Args:
        graph: Nodes with `role`, edges with `coupling` and `delay` (steps); defaults are an ordinary
            agent, and a locked channel without delay.
        path: Where to save the picture, if anywhere; its suffix is the format (`.png`, `.svg`, `.pdf`).

    Raises:
        RunError: If matplotlib is not installed, or the file cannot be written.
    """
    figure = new_figure("a picture of the graph")
    placement = place(graph)
    channels = arrows(graph, placement)
    left, bottom, right, top = extent(placement, channels.values())
    keys_wide = max(int((right - left + 2 * _PAD) / _KEY_WIDTH), 3)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    keys = _draw_channels(axes, graph, channels, min(1.0, placement.radius / 0.28))
    keys |= _draw_agents(axes, graph, placement)
    rows = -(-len(keys) // keys_wide)
    legend = 0.1 + _KEY_HEIGHT * rows
    width = max(right - left + 2 * _PAD, _KEY_WIDTH * min(len(keys), keys_wide))
    height = top - bottom + 2 * _PAD + legend
    figure.set_size_inches(width, height)
    middle = (left + right) / 2
    axes.set(xlim=(middle - width / 2, middle + width / 2), ylim=(bottom - _PAD - legend, top + _PAD))
    _draw_legend(figure, keys, keys_wide)
    return _saved(figure, path)


def _draw_channels(
    axes: Axes,
    graph: nx.MultiDiGraph[str],
    channels: Mapping[tuple[str, str, int | str], Arrow],
    thinness: float,
) -> dict[str, Artist]:
    """Draw the arrows and return the legend's keys, one per coupling."""
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.lines import Line2D

    by_coupling: dict[str, list[tuple[str, str, int | str]]] = {}
    for channel in channels:
        by_coupling.setdefault(graph.edges[channel].get("coupling", "locked"), []).append(channel)
    alpha = 1.0 if len(channels) <= 160 else 0.6 if len(channels) <= 600 else 0.25
    keys: dict[str, Artist] = {}
    for coupling, members in by_coupling.items():
        style = _COUPLINGS.get(coupling, _OTHER_COUPLING)
        dashes: _Dashes = (0.0, style.dashes) if style.dashes else "solid"
        shafts = LineCollection(
            [channels[member].line for member in members],
            colors=style.colour,
            linewidths=style.width * thinness,
            linestyles=[dashes],
            alpha=alpha,
            zorder=1,
        )
        shafts.set_snap(False)
        heads = [channels[member].head for member in members]
        axes.add_collection(shafts)
        axes.add_collection(
            PolyCollection(heads, facecolors=style.colour, linewidths=0, alpha=alpha, zorder=2)
        )
        delays = {int(graph.edges[member].get("delay", 0)) for member in members}
        key = Line2D([], [], color=style.colour, linewidth=style.width + 0.4, linestyle=dashes)
        keys[coupling + _delay_text(delays)] = key
    return keys


def _delay_text(delays: set[int]) -> str:
    low, high = min(delays), max(delays)
    if high == 0:
        return ""
    return f", delay {high}" if low == high else f", delay {low}–{high}"


def _draw_agents(axes: Axes, graph: nx.MultiDiGraph[str], placement: Placement) -> dict[str, Artist]:
    from matplotlib.collections import EllipseCollection
    from matplotlib.lines import Line2D

    keys: dict[str, Artist] = {}
    by_role: dict[str, list[str]] = {}
    for name, attributes in graph.nodes(data=True):
        role = attributes.get("role")
        by_role.setdefault(str(role) if role in _ROLES else "agent", []).append(name)
    size = label_size(list(graph.nodes), placement)
    for role in (role for role in _ROLES if role in by_role):
        style, names = _ROLES[role], by_role[role]
        across = np.full(len(names), 2 * placement.radius)
        axes.add_collection(
            EllipseCollection(
                across,
                across,
                np.zeros(len(names)),
                units="xy",
                offsets=np.stack([placement.places[name] for name in names]),
                offset_transform=axes.transData,
                facecolors=style.fill,
                edgecolors=style.edge,
                linewidths=min(1.4, 5 * placement.radius),
                zorder=4 if role == "readout" else 3,
            )
        )
        for name in names:
            _label(axes, name, placement, style, size)
        keys[role] = Line2D(
            [], [], linestyle="", marker="o", markersize=10, color=style.fill, markeredgecolor=style.edge
        )
    return keys


def _label(axes: Axes, name: str, placement: Placement, style: _Disc, size: float) -> None:
    """Write the name into the disc where it is legible, else under it, or not at all in a dense graph."""
    x, y = placement.places[name]
    inside = size >= 6.0
    if not inside and len(placement.places) > 40:
        return
    axes.text(
        x,
        y if inside else y - placement.radius - 0.04,
        name,
        fontsize=size if inside else 8.0,
        color=style.text if inside else INK,
        ha="center",
        va="center_baseline" if inside else "top",
        parse_math=False,
        zorder=5,
    )


def _draw_legend(figure: Figure, keys: Mapping[str, Artist], columns: int) -> None:
    if not keys:
        return
    legend = figure.legend(
        list(keys.values()),
        list(keys),
        loc="lower center",
        ncols=min(columns, len(keys)),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handletextpad=0.5,
        columnspacing=1.2,
        borderaxespad=0.3,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _saved(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        save_figure(figure, os.path.realpath(path))
    return figure
