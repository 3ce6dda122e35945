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


def test_rows_are_readable_before_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.csv"
    recorder = CsvRecorder(path)
    recorder.begin(DESCRIPTION)
    assert path.read_text() == HEADER
    recorder.figures(100, [Figure("channel", "a->b", "sg_loss", 0.1)])
    assert path.read_text() == HEADER + "100,channel,a->b,sg_loss,0.1\n"
    recorder.close()


def test_values_come_back_to_the_last_bit_and_not_finite_ones_stay(tmp_path: Path) -> None:
    values = [math.pi, 1e-300, 5e-324, -0.0, math.inf, -math.inf, math.nan]
    path = tmp_path / "metrics.csv"
    recorder = CsvRecorder(path)
    recorder.begin(DESCRIPTION)
    recorder.figures(1, [Figure("run", "", "x", value) for value in values])
    recorder.close()
    with path.open(newline="") as file:
        read = [float(row["value"]) for row in csv.DictReader(file)]
    assert [value.hex() for value in read] == [value.hex() for value in values]


def test_names_with_commas_quotes_and_newlines_come_back(tmp_path: Path) -> None:
    name = 'a,"b"\nc'
    path = tmp_path / "metrics.csv"
    recorder = CsvRecorder(path)
    recorder.begin(DESCRIPTION)
    recorder.figures(1, [Figure("agent", name, "loss", 1.0)])
    recorder.close()
    assert [figure.name for _, figure in read_figures(path)] == [name]
