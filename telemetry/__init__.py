"""Telemetry of runs: metrics as tables and in TensorBoard, without any effect on the run.

Nothing here depends on agents, channels or torch. A simulation passes its `RunDescription` to a `Recorder` once, then the
metrics of each step (`Figure`); a recorder cannot change the run. `antiphon.telemetry.tensorboard` has the recorder for
TensorBoard.
"""

from __future__ import annotations

from antiphon.telemetry.figures import Figure, Recorder, RunDescription
from antiphon.telemetry.parts.part_figures import PartFigures
from antiphon.telemetry.timeline_text import AgentTimes, ChannelTimes, Timeline, raster_lines

__all__ = [
    "AgentTimes",
    "ChannelTimes",
    "Figure",
    "PartFigures",
    "Recorder",
    "RunDescription",
    "Timeline",
    "raster_lines",
]
