"""Draws how fast two machines train a GPT, by its size, the line and the batch: see `python docs/pictures/make.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "slow_line")]
from costs import OneMachine, Parts, Setup, Shape, Way
from network import Setting
from reach import FAST, FLOPS, LARGE, WAYS, virtual_seconds

INK, FAINT = "#22303c", "#dfe4e8"
COLOURS = {
    "antiphon": "#d55e00",
    "1F1B": "#0072b2",
    "DDP": "#009e73",
    "DiLoCo": "#cc79a7",
    "Streaming DiLoCo": "#5b6b7a",
}
WIDTHS = range(384, 6145, 128)
BATCHES = (512, 32)
FITS = 80e9 / 16
"""Parameters of which one machine holds values, gradients and moments, 16 bytes each."""


def family(width: int, batch: int) -> Shape:
    """Return a GPT of a width with a depth that models of its size have, for a batch."""
    return replace(
        LARGE["8B"], width=width, blocks=max(2, round(width / 100)), batch=batch
    )


def draw(path: Path) -> None:
    """Draw a row of panels for each batch and a column for each line; points: in virtual time."""
    figure = Figure(figsize=(10.0, 5.6), facecolor="white", layout="constrained")
    rows = figure.subplots(len(BATCHES), len(FAST), sharex=True, sharey=True)
    for batch, row in zip(BATCHES, rows, strict=True):
        for line, axes in zip(map(Setting.parsed, FAST), row, strict=True):
            tokens = batch * LARGE["8B"].length
            axes.set_title(
                f"{line.mbit:g} Mbit/s, {tokens / 1e3:,.0f}k tokens a step",
                loc="left",
                fontsize=10,
                color=INK,
            )
            _panel(axes, line, batch)
    for axes in rows[-1]:
        axes.set_xlabel("parameters", fontsize=9, color=INK)
    for axes in rows[:, 0]:
        axes.set_ylabel("times one machine's speed", fontsize=9, color=INK)
    handles = [Line2D([], [], color=each, linewidth=2) for each in COLOURS.values()]
    figure.legend(
        handles,
        [*COLOURS],
        loc="outside lower center",
        ncols=len(COLOURS),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    figure.savefig(path, dpi=120)


def _panel(axes: Axes, line: Setting, batch: int) -> None:
    shapes = [family(width, batch) for width in WIDTHS]
    for name, way in WAYS.items():
        if isinstance(way, OneMachine):
            continue
        divided = name in ("antiphon", "1F1B")
        within = [shape for shape in shapes if divided or shape.parameters <= FITS]
        beyond = [shape for shape in shapes if not divided and shape.parameters > FITS]
        for some, style in ((within, "-"), (within[-1:] + beyond, ":")):
            axes.plot(
                [shape.parameters for shape in some],
                _speeds(way, line, some),
                style,
                color=COLOURS[name],
                linewidth=2,
            )
    ours = Parts()
    for shape in LARGE.values():
        setup = Setup(replace(shape, batch=batch), line, FLOPS)
        axes.scatter(
            setup.shape.parameters,
            setup.whole / virtual_seconds(ours, setup),
            color=COLOURS["antiphon"],
            s=30,
            zorder=3,
        )
    axes.axhline(1.0, color=INK, linewidth=0.8)
    axes.set_xscale("log")
    axes.grid(color=FAINT, linewidth=0.8)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_visible(False)


def _speeds(way: Way, line: Setting, shapes: Sequence[Shape]) -> list[float]:
    setups = [Setup(shape, line, FLOPS) for shape in shapes]
    return [setup.whole / way.seconds(setup) for setup in setups]
