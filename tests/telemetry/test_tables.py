"""Tables that grow line by line, in files and in memory, and names in them: values to the last bit, resumed at the end."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from antiphon import Simulation
from antiphon.base.errors import ScenarioError
from antiphon.telemetry import Metric, PartMetrics, RunDescription
from antiphon.telemetry.csv_files import CsvRecorder, PartsCsv, read_metrics
from antiphon.telemetry.history import History
from antiphon.telemetry.metrics import tag_part
from tests.kit.parts_table import read_parts

DESCRIPTION = RunDescription(graph=nx.MultiDiGraph(), names={"agents": ("a",), "channels": ()})
FIRST = PartMetrics(
    part=0,
    machine="node-1",
    steps_taken=3,
    seconds=2.5,
    computing=1 / 3,
    waiting=0.625,
    bytes_sent=4096,
    bytes_received=2048,
    calls=3,
)
SECOND = replace(FIRST, part=1, machine='"a, b"\nc', waiting=0.0)


def parts_at(step: int) -> list[PartMetrics]:
    return [replace(FIRST, steps_taken=step), replace(SECOND, steps_taken=step)]


def record_metrics(path: Path, steps: range) -> None:
    recorder = CsvRecorder(path)
    recorder.begin(DESCRIPTION)
    for step in steps:
        recorder.metrics(step, [Metric("agent", "a", "loss", step / 3), Metric("run", "", "seconds", 1.5)])
    recorder.end({})
    recorder.close()
    recorder.close()


def record_parts(path: Path, steps: range) -> None:
    recorder = PartsCsv(path)
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


# --- the history of a run --------------------------------------------------------------------------------


def filled() -> History:
    history = History()
    for step in (1, 10, 20):
        rows = [Metric("agent", "a", "loss", 1.0 / step), Metric("run", "", "seconds", float(step))]
        history.metrics(step, rows)
    history.metrics(20, [Metric("channel", "a->b", "value", math.nan)])
    return history


def test_one_metric_over_the_steps() -> None:
    steps, values = filled().of("a", "loss")
    np.testing.assert_array_equal(steps, [1, 10, 20])
    np.testing.assert_array_equal(values, [1.0, 0.1, 0.05])
    assert [part.size for part in History().of("a", "loss")] == [0, 0]


@pytest.mark.parametrize(
    ("name", "metric", "line"),
    [
        ("a", "los", "history: no 'a.los' is logged so far; did you mean 'a.loss'?"),
        ("a>b", "value", "history: no 'a>b.value' is logged so far; did you mean 'a->b.value'?"),
    ],
)
def test_a_metric_that_is_not_logged_is_refused_with_the_nearest(name: str, metric: str, line: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        filled().of(name, metric)
    assert str(raised.value) == line


def test_a_run_that_begins_again_forgets_what_came_after() -> None:
    history = filled()
    history.metrics(10, [Metric("agent", "a", "loss", 7.0)])
    assert [row.step for row in history] == [1, 1, 10]
    assert history[-1].value == 7.0
    history.metrics(2, [])
    assert [row.step for row in history] == [1, 1]


def test_it_is_the_same_in_memory_and_from_a_directory_and_moves_no_bit(tmp_path: Path) -> None:
    with (
        Simulation("digits-mlp", seed=2) as one,
        Simulation("digits-mlp", seed=2, logdir=tmp_path / "run") as two,
    ):
        history = one.history
        assert one.history is history
        one.run(steps=5)
        two.run(steps=5)
        ours = [repr(row) for row in history if row.kind != "run"]
        theirs = [repr(row) for row in two.history if row.kind != "run"]
        assert len(ours) > 20
        assert ours == theirs


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "n00", "left-eye", "a__to__b", "v1.2"])
def test_names_of_scenarios_stay_as_they_are(name: str) -> None:
    assert tag_part(name) == name


def test_other_names_become_one_harmless_part_each_its_own() -> None:
    names = ["", "a/b", "../../etc", "<b>x</b>", "a b", "a:b", "a|b", "ä", "a\nb", "x" * 500 + "/"]
    parts = [tag_part(name) for name in names]
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]{9,80}", part) for part in parts)
    assert parts == [tag_part(name) for name in names]
    assert len({*parts, tag_part("a_b")}) == len(names) + 1
