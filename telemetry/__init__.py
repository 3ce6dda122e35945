"""Looking, never touching: what a run hands over as numbers, kept as a table and shown in TensorBoard.

Nothing here knows agents, channels or torch. A simulation describes itself once (`RunDescription`), then
hands `Figure` rows to a `Recorder`; what a recorder does with them can change no number of the run.

`TensorBoardRecorder` and `draw_graph` are imported on first use, so that importing this package stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from antiphon.telemetry.figures import Figure, HistogramRow, Kind, Names, Recorder, Recorders, RunDescription
from antiphon.telemetry.metrics_csv import CsvRecorder

if TYPE_CHECKING:
    from antiphon.telemetry.pictures import draw_graph
    from antiphon.telemetry.tensorboard import TensorBoardRecorder

__all__ = [
    "CsvRecorder",
    "Figure",
    "HistogramRow",
    "Kind",
    "Names",
    "Recorder",
    "Recorders",
    "RunDescription",
    "TensorBoardRecorder",
    "draw_graph",
]


def __getattr__(name: str) -> Any:
    if name == "TensorBoardRecorder":
        from antiphon.telemetry.tensorboard import TensorBoardRecorder

        return TensorBoardRecorder
    if name == "draw_graph":
        from antiphon.telemetry.pictures import draw_graph

        return draw_graph
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
