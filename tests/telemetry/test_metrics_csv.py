"""metrics.csv: long form, continued after a checkpoint, never half-written."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import networkx as nx

from antiphon.telemetry import CsvRecorder, Figure, RunDescription
from antiphon.telemetry.csv_files import read_figures

DESCRIPTION = RunDescription(
    yaml="", hparams={}, graph=nx.MultiDiGraph(), names={"agents": ("a",), "channels": ()}
)
HEADER = "step,kind,name,metric,value\n"


def record(path: Path, steps: range, *, resumed: bool = False) -> None:
    recorder = CsvRecorder(path, resumed=resumed)
    recorder.begin(DESCRIPTION)
    for step in steps:
        recorder.figures(step, [Figure("agent", "a", "loss", step / 3), Figure("run", "", "seconds", 1.5)])
    recorder.histograms(steps.stop, [])
    recorder.end({})
    recorder.close()
    recorder.close()


def test_rows_are_readable_before_the_file_is_closed_and_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = [math.pi, 1e-300, 5e-324, -0.0, math.inf, -math.inf, math.nan]
    name = 'a,"b"\nc'
    path = tmp_path / "run" / "metrics.csv"
    recorder = CsvRecorder(path)
    recorder.begin(DESCRIPTION)
    assert path.read_text() == HEADER
    recorder.figures(100, [Figure("channel", "a->b", "sg_loss", 0.1)])
    assert path.read_text() == HEADER + "100,channel,a->b,sg_loss,0.1\n"
    recorder.figures(101, [Figure("agent", name, "x", value) for value in values])
    recorder.close()
    with path.open(newline="") as file:
        read = [float(row["value"]) for row in csv.DictReader(file)]
    assert [value.hex() for value in read[1:]] == [value.hex() for value in values]
    assert {figure.name for _, figure in read_figures(path)} == {"a->b", name}
