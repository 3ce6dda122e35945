"""Telemetry of runs: metrics as tables and in TensorBoard, without any effect on the run.

Nothing here depends on agents, channels or torch. A simulation passes its `RunDescription` once, then `Figure` rows
to a `Recorder`, which cannot change the run.

The recorder for TensorBoard and pictures of graphs are imported on first use, so that this package imports quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from antiphon.telemetry.csv_files import CsvRecorder
from antiphon.telemetry.figures import (
    Figure,
    HistogramRow,
    Kind,
    Names,
    Recorder,
    Recorders,
    RunDescription,
    SampleRow,
)
from antiphon.telemetry.parts.part_figures import PartFigures
from antiphon.telemetry.timeline import AgentTimes, ChannelTimes, Timeline, raster_lines

if TYPE_CHECKING:
    from antiphon.telemetry.tensorboard import TensorBoardRecorder

__all__ = [
    "AgentTimes",
    "ChannelTimes",
    "CsvRecorder",
    "Figure",
    "HistogramRow",
    "Kind",
    "Names",
    "PartFigures",
    "Recorder",
    "Recorders",
    "RunDescription",
    "SampleRow",
    "TensorBoardRecorder",
    "Timeline",
    "raster_lines",
]


_LAZY = {
    "TensorBoardRecorder": "tensorboard",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
