"""Draws what a sender waits for, for each learning signal: see `python docs/pictures/make.py`.

A scheme, not a measurement: a forward pass takes one unit of time, a backward pass with its update two, the line one and a half.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

INK, FORWARD, BACKWARD, PREDICTED, LOCAL, IDLE = (
    "#22303c",
    "#8ab8dd",
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#e3e8ec",
)
WORDS = {
    "locked": "the sender waits until the true gradient has come back",
    "delayed": "the sender goes on, and applies the true gradient when it comes",
    "decoupled": "the sender learns at once from a predicted gradient; the true one only trains the predictor",
    "local": "the sender learns at once from a loss of its own; nothing comes back",
    "detached": "the sender gets no gradient from the receiver",
}
LINE, END = 1.5, 22.0


@dataclass
class Lanes:
    """Passes of sender and receiver as (start, length, colour), and what crosses as (from, to, colour, style)."""

    sender: list[tuple[float, float, str]] = field(default_factory=list)
    receiver: list[tuple[float, float, str]] = field(default_factory=list)
    forth: list[tuple[float, float]] = field(default_factory=list)
    back: list[tuple[float, float, str]] = field(default_factory=list)


def lanes_of(coupling: str) -> Lanes:
    """Let sender and receiver compute until the picture's end."""
    lanes, now, free, returned = Lanes(), 0.0, 0.0, list[float]()
    while now < END:
        lanes.sender.append((now, 1.0, FORWARD))
        now += 1
        lanes.forth.append((now, now + LINE))
        start = max(free, now + LINE)
        lanes.receiver += [(start, 1.0, FORWARD), (start + 1, 2.0, BACKWARD)]
        free = start + 3
        if coupling in ("locked", "delayed", "decoupled"):
            lanes.back.append(
                (free, free + LINE, "--" if coupling == "decoupled" else "-")
            )
            returned.append(free + LINE)
        if coupling == "locked":
            now = returned.pop()
            lanes.sender.append((now, 2.0, BACKWARD))
            now += 2
        elif coupling == "delayed":
            if returned[0] <= now:
                returned.pop(0)
                lanes.sender.append((now, 2.0, BACKWARD))
            now += 2
        elif coupling == "detached":
            now += 2
        else:
            lanes.sender.append(
                (now, 2.0, PREDICTED if coupling == "decoupled" else LOCAL)
            )
            now += 2
    return lanes


def draw(path: Path) -> None:
    """Draw all signals under one another."""
    figure = Figure(figsize=(10.0, 5.8), facecolor="white", layout="constrained")
    for axes, (coupling, words) in zip(
        figure.subplots(len(WORDS), 1), WORDS.items(), strict=True
    ):
        _row(axes, lanes_of(coupling))
        axes.set_title(f"{coupling}: {words}", loc="left", fontsize=10, color=INK)
    axes.set_xlabel("time →", loc="right", color=INK, fontsize=9)
    figure.legend(
        handles=[
            Patch(color=FORWARD, label="forward pass"),
            Patch(color=BACKWARD, label="backward pass, true gradient"),
            Patch(color=PREDICTED, label="backward pass, predicted gradient"),
            Patch(color=LOCAL, label="backward pass, local loss"),
            Patch(color=IDLE, label="idle"),
            Line2D(
                [],
                [],
                color=INK,
                label="message, gradient (dashed: it trains the predictor)",
            ),
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=100)


def _row(axes: Axes, lanes: Lanes) -> None:
    axes.set(xlim=(0, END), ylim=(-0.05, 1.95))
    axes.set_xticks([])
    axes.set_yticks([0.3, 1.6], ["receiver", "sender"])
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_visible(False)
    for height, passes in ((0.0, lanes.receiver), (1.3, lanes.sender)):
        axes.barh(height + 0.3, END, 0.6, color=IDLE)
        for start, length, colour in passes:
            axes.barh(
                height + 0.3,
                length,
                0.6,
                left=start,
                color=colour,
                edgecolor="white",
                linewidth=1.2,
            )
    crossings = [(1.3, 0.6, *crossing, "-") for crossing in lanes.forth]
    crossings += [(0.6, 1.3, *crossing) for crossing in lanes.back]
    for bottom, top, start, end, style in crossings:
        looks = {
            "arrowstyle": "->",
            "color": INK,
            "linestyle": style,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        if end < END:
            axes.annotate("", xy=(end, top), xytext=(start, bottom), arrowprops=looks)
