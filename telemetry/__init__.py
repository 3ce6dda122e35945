"""Telemetry of runs: metrics as tables and in TensorBoard, without any effect on the run.

Nothing here depends on agents, channels or torch. A simulation passes its `RunDescription` to a `Recorder` once, then the
metrics of each step (`Metric`); a recorder cannot change the run. `antiphon.telemetry.tensorboard` has the recorder for
TensorBoard, and `read_run` reads a run's metrics and messages again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from antiphon.telemetry.metrics import Metric, Recorder, RunDescription
from antiphon.telemetry.parts.part_metrics import PartMetrics
from antiphon.telemetry.timeline_text import AgentTimes, ChannelTimes, Timeline, raster_lines

if TYPE_CHECKING:
    from antiphon.telemetry.tab.reading import read_run
    from antiphon.telemetry.tab.series import Messages, RunData, Series

__all__ = [
    "AgentTimes",
    "ChannelTimes",
    "Messages",
    "Metric",
    "PartMetrics",
    "Recorder",
    "RunData",
    "RunDescription",
    "Series",
    "Timeline",
    "raster_lines",
    "read_run",
]
_FROM = {
    "Messages": "tab.series",
    "RunData": "tab.series",
    "Series": "tab.series",
    "read_run": "tab.reading",
}
"""The modules of the names that load on first use: they import numpy, and the reader TensorBoard."""


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(import_module(f"antiphon.telemetry.{_FROM[name]}"), name)
    raise AttributeError(f"module 'antiphon.telemetry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
