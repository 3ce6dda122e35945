"""Telemetry of runs: metrics as tables and in TensorBoard, without any effect on the run.

Nothing here depends on agents, channels or torch. A simulation passes its `RunDescription` to a `Recorder` once, then the
metrics of each step (`Metric`); a recorder cannot change the run. `antiphon.telemetry.tensorboard` has the recorder for
TensorBoard, and `read_run` reads a run's metrics and messages again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from antiphon.telemetry.metrics import Metric, PartMetrics, Recorder, RunDescription

if TYPE_CHECKING:
    from antiphon.telemetry.tab.reading import read_run

__all__ = ["Metric", "PartMetrics", "Recorder", "RunDescription", "read_run"]


def __getattr__(name: str) -> Any:
    if name == "read_run":  # it loads TensorBoard
        from antiphon.telemetry.tab.reading import read_run

        return read_run
    raise AttributeError(f"module 'antiphon.telemetry' has no attribute {name!r}")
