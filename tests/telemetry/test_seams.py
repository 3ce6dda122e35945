"""A run that was killed at any moment and resumed has the event file of the unbroken run."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator as MigratingAccumulator,
)

from antiphon.telemetry import Figure, RunDescription, TensorBoardRecorder
from antiphon.telemetry.event_file import EventFile, drop_after
from antiphon.telemetry.parts.part_figures import PartFigures
from antiphon.telemetry.timeline import Timeline
from tests.telemetry.test_tensorboard import describe, rows_at
from tests.telemetry.times import agent_times
from tests.written_events import raw_rows, read_rows

RESULT = {"accuracy": 0.5, "seconds": 2.0}


def description(start: int = 0) -> RunDescription:
    yes = np.ones(3, bool)
    alone = agent_times("n0000", yes, ends=yes, since=np.arange(3))
    timeline = Timeline(start=0, steps=3, agents=(alone,), channels=(), episode_ends=~yes)
    plain = describe(2, start=start)
    for node in plain.graph.nodes:
        plain.graph.nodes[node]["part"] = 0
    return replace(plain, timeline=timeline)


def part(step: int) -> PartFigures:
    return PartFigures(
        part=0,
        machine="here" if step < 3 else "there",
        steps_taken=step,
        seconds=1.0,
        computing=0.5,
        waiting={},
        bytes_sent=0,
        bytes_received=0,
        calls=0,
        staleness=0.0,
        blocked_on=(),
        incarnation=0,
        alive=True,
        heartbeat_age=0.0,
    )


def write(recorder: TensorBoardRecorder, steps: Iterable[int]) -> None:
    """Write rows: a metric that comes late, samples at every other step, histograms, parts that move."""
    for step in steps:
        rows = rows_at(step, description())
        recorder.figures(step, [*rows, *([Figure("agent", "n0001", "late", 1.0)] if step > 2 else [])])
        recorder.histograms(step, [("channel", "n0000->n0001", "message", np.arange(float(step)))])
        if step % 2:
            recorder.samples(step, [("n0001->n0000", np.full((2, 3), step, dtype=np.float32))])
        recorder.parts(step, [part(step)])


def begun(folder: Path, start: int = 0) -> TensorBoardRecorder:
    recorder = TensorBoardRecorder(folder, start)
    recorder.begin(description(start))
    return recorder


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    recorder = begun(folder)
    write(recorder, range(1, 7))
    recorder.end(RESULT)
    recorder.close()
    return folder


@pytest.fixture(scope="module")
def expected(unbroken: Path) -> dict[str, Any]:
    found = raw_rows(unbroken)
    assert {"scenario/yaml", "antiphon/graph", "antiphon/timeline", "antiphon/messages/1"} <= found.keys()
    return found


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("events.*")
    return path


def killed(unbroken: Path, folder: Path, size: int) -> Path:
    """A run that was killed when its event file had so many bytes on the disk."""
    folder.mkdir()
    path = shutil.copy(the_file(unbroken), folder)
    with Path(path).open("r+b") as file:
        file.truncate(size)
    return folder


def sizes_at(unbroken: Path) -> list[int]:
    """The sizes of the event file as each step, from 0 on, has been written."""
    data = the_file(unbroken)
    found = []
    for step in range(7):
        copy = data.with_name("events.out.tfevents.0000000001.antiphon")
        shutil.copy(data, copy)
        others = data.rename(data.with_suffix(".kept"))
        drop_after(copy.parent, step)
        others.rename(data)
        found.append(copy.stat().st_size)
        copy.unlink()
    return found


@pytest.mark.parametrize("checkpoint", [0, 1, 4, 6])
def test_a_kill_after_any_byte_leaves_no_seam(
    unbroken: Path, expected: dict[str, Any], tmp_path: Path, checkpoint: int
) -> None:
    """What a checkpoint counts on is on the disk before it; any number of bytes of what follows may be."""
    whole = the_file(unbroken).stat().st_size
    safe = sizes_at(unbroken)[checkpoint] if checkpoint else 0
    for number, size in enumerate(np.linspace(safe, whole, 16).astype(int).tolist()):
        folder = killed(unbroken, tmp_path / str(number), size)
        recorder = begun(folder, checkpoint)
        write(recorder, range(checkpoint + 1, 7))
        recorder.end(RESULT)
        recorder.close()
        assert raw_rows(folder) == expected, size
        if number % 8 == 0:
            assert read_rows(folder) == read_rows(unbroken), size


def test_many_kills_in_a_row(unbroken: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    """Each session is killed some steps after its checkpoint; some leave no file at all, or a few bytes."""
    for start, reached in ((0, 0), (0, 2), (1, 1), (1, 4), (3, 4), (4, 6), (5, 5)):
        recorder = begun(tmp_path, start)
        write(recorder, range(start + 1, reached + 1))
        recorder.close()
    for path in tmp_path.glob("events.*"):
        with path.open("ab") as file:
            file.write(b"\x07")
    recorder = begun(tmp_path, 5)
    write(recorder, range(6, 7))
    recorder.end(RESULT)
    recorder.close()
    assert raw_rows(tmp_path) == expected
    assert read_rows(tmp_path) == read_rows(unbroken)


def test_a_reader_that_was_there_before_the_kill_has_every_step_once(
    unbroken: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    """TensorBoard has read the rows that are cut off, and goes on reading."""
    recorder = begun(tmp_path)
    write(recorder, range(1, 6))
    recorder.close()
    reader = MigratingAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in reader.Tensors("agent/n0000/loss")] == [1, 2, 3, 4, 5]
    recorder = begun(tmp_path, 3)
    write(recorder, range(4, 7))
    recorder.end(RESULT)
    recorder.close()
    reader.Reload()
    for tag, rows in expected.items():
        assert [event.step for event in reader.Tensors(tag)] == [step for step, _ in rows], tag


def test_a_result_within_a_session_is_kept(tmp_path: Path) -> None:
    """`run(2)` and then `run(2)` in one session: only the result of the end is written anew."""
    recorder = begun(tmp_path)
    write(recorder, (1, 2))
    recorder.end(RESULT)
    write(recorder, (3, 4))
    recorder.end(RESULT)
    recorder.close()
    begun(tmp_path, 4).close()
    found = raw_rows(tmp_path)
    assert [step for step, _ in found["result/accuracy"]] == [2]
    assert [step for step, _ in found["agent/n0000/loss"]] == [1, 2, 3, 4]


def test_a_graph_that_has_changed_is_written_anew(tmp_path: Path) -> None:
    begun(tmp_path).close()
    recorder = TensorBoardRecorder(tmp_path, 3)
    recorder.begin(replace(description(3), until=99))
    recorder.close()
    found = raw_rows(tmp_path)
    assert [step for step, _ in found["antiphon/graph"]] == [0, 3]
    assert [step for step, _ in found["antiphon/timeline"]] == [0]


def test_files_of_other_writers_are_not_cut(tmp_path: Path) -> None:
    other = tmp_path / "events.out.tfevents.0000000001.host.123.0"
    events = EventFile(tmp_path)
    events.scalars(9, [("x", "x", 1.0)])
    events.close()
    the_file(tmp_path).rename(other)
    before = other.read_bytes()
    drop_after(tmp_path, 0)
    assert other.read_bytes() == before


@pytest.mark.parametrize("place", [0, 9, 30])
def test_a_damaged_file_is_not_cut(unbroken: Path, tmp_path: Path, place: int) -> None:
    """A wrong byte in the length of a record, or in its checksum: nobody can say where the next one begins."""
    path = Path(shutil.copy(the_file(unbroken), tmp_path))
    data = bytearray(path.read_bytes())
    starts = [0]
    while len(starts) < 40:
        starts.append(starts[-1] + 16 + int.from_bytes(data[starts[-1] : starts[-1] + 8], "little"))
    data[starts[place] + place % 12] ^= 0x11
    path.write_bytes(data)
    drop_after(tmp_path, 6)
    assert path.read_bytes() == bytes(data)
