"""metrics.csv: long form, continued after a checkpoint, never half-written."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import networkx as nx
import pytest

from antiphon.errors import RunError
from antiphon.telemetry import CsvRecorder, Figure, RunDescription

DESCRIPTION = RunDescription(
    yaml="", hparams={}, graph=nx.MultiDiGraph(), names={"agents": ("a",), "channels": ()}
)
HEADER = "step,kind,name,metric,value\n"


def record(path: Path, steps: range, resume_step: int | None = None) -> None:
    recorder = CsvRecorder(path, resume_step)
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
    recorder = CsvRecorder(path, resume_step=1)
    recorder.begin(DESCRIPTION)
    recorder.close()
    with path.open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [name]


@pytest.mark.parametrize("torn", ["3,agent,a,loss,0.", '3,agent,"a', "3", "st", HEADER.strip(), ""])
def test_a_last_line_torn_by_a_crash_is_dropped(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.csv"
    whole = "" if HEADER.startswith(torn) else HEADER + "2,agent,a,loss,0.5\n"
    path.write_text(whole + torn)
    recorder = CsvRecorder(path, resume_step=3)
    recorder.begin(DESCRIPTION)
    recorder.close()
    assert path.read_text() == (whole or HEADER)


def test_resuming_without_a_table_begins_one(tmp_path: Path) -> None:
    record(tmp_path / "metrics.csv", range(5, 6), resume_step=4)
    assert (tmp_path / "metrics.csv").read_text().startswith(HEADER + "5,")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("a,b\n1,2\n", r"metrics.csv:1: no table of figures"),
        (HEADER + "1,agent,a,loss,1\nrubbish\n2,agent,a,loss,1\n", r"metrics.csv:3: 'rubbish' is no row"),
        (HEADER + "x,agent,a,loss,1\n", r"metrics.csv:2: "),
    ],
)
def test_a_foreign_or_damaged_table_is_named_and_left_alone(tmp_path: Path, content: str, place: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(RunError, match=place):
        record(path, range(9, 10), resume_step=8)
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]
