"""A run that goes on where its event files were cut off has the events of the unbroken run."""

from __future__ import annotations

import os
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

from antiphon.telemetry import AgentTimes, Metric, PartMetrics, RunDescription, Timeline
from antiphon.telemetry.tensorboard import TensorBoardRecorder
from tests.kit.tab import GRAPH, PARTS
from tests.kit.written_events import raw_rows, read_rows
from tests.telemetry.test_tensorboard import describe, rows_at

RESULT = {"accuracy": 0.5, "seconds": 2.0}


def description(start: int = 0) -> RunDescription:
    yes = np.ones(3, bool)
    alone = AgentTimes(name="n0000", ticks=yes, ends=yes)
    timeline = Timeline(start=0, steps=3, agents=(alone,), channels=(), episode_ends=~yes)
    plain = describe(2, start=start)
    for node in plain.graph.nodes:
        plain.graph.nodes[node]["part"] = 0
    return replace(plain, timeline=timeline)


def part(step: int) -> PartMetrics:
    return PartMetrics(
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
    )


def write(recorder: TensorBoardRecorder, steps: Iterable[int]) -> None:
    """Write rows: a metric that comes late, samples at every other step, histograms, parts that move."""
    for step in steps:
        rows = rows_at(step, description())
        recorder.metrics(step, [*rows, *([Metric("agent", "n0001", "late", 1.0)] if step > 2 else [])])
        recorder.histograms(step, [("channel", "n0000->n0001", "message", np.arange(float(step)))])
        if step % 2:
            recorder.samples(step, [("n0001->n0000", np.full((2, 3), step, dtype=np.float32))])
        recorder.parts(step, [part(step)])


def begun(folder: Path, start: int = 0) -> TensorBoardRecorder:
    recorder = TensorBoardRecorder(folder)
    recorder.begin(description(start))
    return recorder


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of each event file: what run.json has of a checkpoint."""
    return {path.name: path.stat().st_size for path in folder.glob("events.*")}


def go_back(folder: Path, noted: dict[str, int]) -> None:
    """Cut event files off where they were at a checkpoint, as a run directory does."""
    for path in folder.glob("events.*"):
        if path.name in noted:
            os.truncate(path, noted[path.name])
        else:
            path.unlink()


Noted = dict[int, dict[str, int]]


def session(folder: Path, start: int, reached: int, noted: Noted) -> None:
    """Go on from a checkpoint, with one after every step; the last step ends the run."""
    go_back(folder, noted.get(start, {}))
    recorder = begun(folder, start)
    for step in range(start + 1, reached + 1):
        write(recorder, [step])
        noted[step] = sizes(folder)
    if reached == 6:
        recorder.end(RESULT)
    recorder.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Noted]:
    """The unbroken run, and what is noted of its checkpoints."""
    folder, noted = tmp_path_factory.mktemp("unbroken"), Noted()
    session(folder, 0, 6, noted)
    return folder, noted


@pytest.fixture(scope="module")
def unbroken(whole: tuple[Path, Noted]) -> Path:
    return whole[0]


@pytest.fixture(scope="module")
def expected(unbroken: Path) -> dict[str, Any]:
    found = raw_rows(unbroken)
    assert {
        "scenario/yaml/text_summary",
        "antiphon/graph",
        "antiphon/timeline",
        "antiphon/messages/1",
    } <= found.keys()
    return found


@pytest.mark.long
@pytest.mark.parametrize("checkpoint", [0, 1, 4, 6])
def test_what_goes_on_from_a_checkpoint_leaves_no_seam(
    whole: tuple[Path, Noted], expected: dict[str, Any], tmp_path: Path, checkpoint: int
) -> None:
    unbroken, noted = whole
    shutil.copytree(unbroken, tmp_path / "run")
    session(tmp_path / "run", checkpoint, 6, dict(noted))
    assert raw_rows(tmp_path / "run") == expected
    assert read_rows(tmp_path / "run") == read_rows(unbroken)


def test_a_reader_that_was_there_before_the_kill_has_every_step_once(
    unbroken: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    """TensorBoard has read the rows that are cut off, and goes on reading."""
    noted = Noted()
    session(tmp_path, 0, 5, noted)
    reader = MigratingAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in reader.Tensors("agent/n0000/loss")] == [1, 2, 3, 4, 5]
    session(tmp_path, 3, 6, noted)
    reader.Reload()
    for tag in expected.keys() - {GRAPH, PARTS}:
        rows = expected[tag]
        assert [event.step for event in reader.Tensors(tag)] == [step for step, _ in rows], tag
