"""Tables that grow line by line: values to the last bit, resumed at the end, a last line that a crash tore is no row."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import networkx as nx
import pytest

from antiphon.telemetry import Metric, PartMetrics, RunDescription
from antiphon.telemetry.csv_files import CsvRecorder, read_metrics
from tests.kit import parts_table
from tests.kit.parts_table import read_parts

DESCRIPTION = RunDescription(
    yaml="", hparams={}, graph=nx.MultiDiGraph(), names={"agents": ("a",), "channels": ()}
)
FIRST = PartMetrics(
    part=0,
    machine="node-1",
    steps_taken=3,
    seconds=2.5,
    computing=1 / 3,
    waiting={2: 0.5, 1: 0.125},
    bytes_sent=4096,
    bytes_received=2048,
    calls=3,
    staleness=1.5,
)
SECOND = replace(FIRST, part=1, machine='"a, b"\nc', waiting={}, blocked_on=(0, 2))


def parts_at(step: int) -> list[PartMetrics]:
    return [replace(FIRST, steps_taken=step), replace(SECOND, steps_taken=step)]


def record_metrics(path: Path, steps: range) -> None:
    recorder = CsvRecorder(path)
    recorder.begin(DESCRIPTION)
    for step in steps:
        recorder.metrics(step, [Metric("agent", "a", "loss", step / 3), Metric("run", "", "seconds", 1.5)])
    recorder.histograms(steps.stop, [])
    recorder.end({})
    recorder.close()
    recorder.close()


def record_parts(path: Path, steps: range) -> None:
    recorder = parts_table.recorder(path)
    recorder.begin(DESCRIPTION)
    for step in steps:
        recorder.parts(step, parts_at(step))
    recorder.close()


def steps_of_metrics(path: Path) -> Iterable[int]:
    return dict.fromkeys(step for step, _ in read_metrics(path))


each_table = pytest.mark.parametrize(
    ("record", "read"),
    [(record_metrics, steps_of_metrics), (record_parts, read_parts)],
    ids=["metrics", "parts"],
)
Record = Callable[..., None]
Read = Callable[[Path], Iterable[int]]


def test_metrics_are_readable_before_the_file_is_closed_and_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = [math.pi, 1e-300, 5e-324, -0.0, math.inf, -math.inf, math.nan]
    name, header = 'a,"b"\nc', "step,kind,name,metric,value\n"
    path = tmp_path / "metrics.csv"
    recorder = CsvRecorder(path)
    recorder.begin(DESCRIPTION)
    assert path.read_text() == header
    recorder.metrics(100, [Metric("channel", "a->b", "sg_loss", 0.1)])
    assert path.read_text() == header + "100,channel,a->b,sg_loss,0.1\n"
    recorder.metrics(101, [Metric("agent", name, "x", value) for value in values])
    recorder.close()
    with path.open(newline="") as file:
        read = [float(row["value"]) for row in csv.DictReader(file)]
    assert [value.hex() for value in read[1:]] == [value.hex() for value in values]
    assert {metric.name for _, metric in read_metrics(path)} == {"a->b", name}


def test_a_part_names_the_neighbour_that_it_waited_for_the_longest() -> None:
    assert (FIRST.waited, FIRST.waited_for) == (0.625, 2)
    assert replace(FIRST, waiting={3: 1.0, 1: 1.0}).waited_for == 1
    assert replace(FIRST, waiting={3: 0.0}).waited_for is None
    assert (SECOND.waited, SECOND.waited_for) == (0.0, None)


@each_table
def test_resumed_table_equals_an_unbroken_one(tmp_path: Path, record: Record, read: Read) -> None:
    record(tmp_path / "whole.csv", range(1, 9))
    record(tmp_path / "broken.csv", range(1, 5))
    record(tmp_path / "broken.csv", range(5, 9))
    assert (tmp_path / "broken.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    record(tmp_path / "new.csv", range(1, 9))
    assert (tmp_path / "new.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert list(read(tmp_path / "whole.csv")) == list(range(1, 9))


@each_table
def test_a_last_line_torn_by_a_crash_is_left_out(tmp_path: Path, record: Record, read: Read) -> None:
    path = tmp_path / "table.csv"
    record(path, range(1, 3))
    whole = path.read_bytes()
    header, first, *_ = whole.splitlines(keepends=True)
    for end in (0, 3, len(header) - 1, len(header), len(header) + 4, len(header) + len(first) - 1):
        path.write_bytes(whole[:end])
        assert list(read(path)) == [], end
    path.write_bytes(whole + whole.splitlines()[-1][:-2])
    assert list(read(path)) == [1, 2]
