"""Telemetry of runs: metrics as tables and in TensorBoard, without any effect on the run.

Nothing here depends on agents, channels or torch. A simulation passes its `RunDescription` once, then `Figure` rows
to a `Recorder`, which cannot change the run.

`TensorBoardRecorder`, `draw_graph` and `draw_timeline` are imported on first use, so that this package imports quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from antiphon.telemetry.figures import (
    DigestRow,
    Figure,
    HistogramRow,
    Kind,
    Names,
    Recorder,
    Recorders,
    RunDescription,
    SampleRow,
)
from antiphon.telemetry.metrics_csv import CsvRecorder
from antiphon.telemetry.raster_text import raster_lines
from antiphon.telemetry.timeline import AgentTimes, ChannelTimes, Timeline

if TYPE_CHECKING:
    from antiphon.telemetry.pictures import draw_graph
    from antiphon.telemetry.raster import draw_timeline
    from antiphon.telemetry.tensorboard import TensorBoardRecorder

__all__ = [
    "AgentTimes",
    "ChannelTimes",
    "CsvRecorder",
    "DigestRow",
    "Figure",
    "HistogramRow",
    "Kind",
    "Names",
    "Recorder",
    "Recorders",
    "RunDescription",
    "SampleRow",
    "TensorBoardRecorder",
    "Timeline",
    "draw_graph",
    "draw_timeline",
    "raster_lines",
]


def __getattr__(name: str) -> Any:
    if name == "TensorBoardRecorder":
        from antiphon.telemetry.tensorboard import TensorBoardRecorder

        return TensorBoardRecorder
    if name == "draw_graph":
        from antiphon.telemetry.pictures import draw_graph

        return draw_graph
    if name == "draw_timeline":
        from antiphon.telemetry.raster import draw_timeline

        return draw_timeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
