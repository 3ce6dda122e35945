"""parts.csv: what is written is read, a run goes on in it, and a row torn by a crash is dropped."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import networkx as nx

from antiphon.telemetry import PartFigures, RunDescription
from antiphon.telemetry.parts.parts_csv import PARTS_HEADER, PartsCsv
from tests.parts_table import read_parts

DESCRIPTION = RunDescription(
    yaml="", hparams={}, graph=nx.MultiDiGraph(), names={"agents": (), "channels": ()}
)
FIRST = PartFigures(
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
SECOND = replace(
    FIRST,
    part=1,
    machine='"a, b"\nc',
    waiting={},
    blocked_on=(0, 2),
    incarnation=2,
    alive=False,
    heartbeat_age=9.0,
)


def rows(step: int) -> list[PartFigures]:
    return [replace(FIRST, steps_taken=step), replace(SECOND, steps_taken=step)]


def record(path: Path, steps: range, *, resumed: bool = False) -> None:
    recorder = PartsCsv(path, resumed=resumed)
    recorder.begin(DESCRIPTION)
    for step in steps:
        recorder.parts(step, rows(step))
    recorder.end({})
    recorder.close()
    recorder.close()


def test_what_is_written_is_read_to_the_bit(tmp_path: Path) -> None:
    record(tmp_path / "run" / "parts.csv", range(1, 4))
    assert read_parts(tmp_path / "run" / "parts.csv") == {step: rows(step) for step in (1, 2, 3)}


def test_rows_are_readable_before_the_file_is_closed(tmp_path: Path) -> None:
    recorder = PartsCsv(tmp_path / "parts.csv")
    recorder.begin(DESCRIPTION)
    recorder.parts(7, [FIRST])
    header, row = (tmp_path / "parts.csv").read_text().splitlines()
    assert header == ",".join(PARTS_HEADER)
    assert row == "7,0,node-1,3,2.5,0.3333333333333333,1=0.125 2=0.5,4096,2048,3,1.5,,0,1,0.0"
    recorder.close()


def test_a_run_without_the_file_has_no_rows(tmp_path: Path) -> None:
    assert read_parts(tmp_path / "parts.csv") == {}


def test_the_last_of_several_rows_of_one_step_counts(tmp_path: Path) -> None:
    recorder = PartsCsv(tmp_path / "parts.csv")
    recorder.begin(DESCRIPTION)
    recorder.parts(4, rows(4))
    gone = replace(SECOND, alive=False, heartbeat_age=30.0)
    recorder.parts(4, [gone])
    recorder.close()
    assert read_parts(tmp_path / "parts.csv") == {4: [rows(4)[0], gone]}


def test_a_simulation_that_begins_again_replaces_its_rows(tmp_path: Path) -> None:
    recorder = PartsCsv(tmp_path / "parts.csv")
    recorder.begin(DESCRIPTION)
    for step in (1, 2, 3, 1, 2):
        recorder.parts(step, rows(step))
    recorder.close()
    assert list(read_parts(tmp_path / "parts.csv")) == [1, 2]


def test_a_part_names_the_neighbour_that_it_waited_for_the_longest() -> None:
    assert (FIRST.waited, FIRST.waited_for) == (0.625, 2)
    assert replace(FIRST, waiting={3: 1.0, 1: 1.0}).waited_for == 1
    assert replace(FIRST, waiting={3: 0.0}).waited_for is None
    assert SECOND.waited_for is None
    assert math.isclose(SECOND.waited, 0.0)
