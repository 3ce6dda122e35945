"""Parts in TensorBoard: a curve for each metric of each part, and what all of many parts have together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from antiphon.telemetry import Metric
from antiphon.telemetry.tensorboard import TensorBoardRecorder
from tests.telemetry.parts.made import STEPS, description, part, rows

CURVES = {
    *("steps_taken", "computing", "waiting", "bytes_sent", "bytes_received", "calls"),
    "staleness",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recorder = TensorBoardRecorder(tmp_path)
    recorder.begin(description())
    for step in STEPS:
        recorder.metrics(step, [Metric("agent", "a", "loss", 1.0)])
        recorder.parts(step, rows(step))
    recorder.close()
    return tmp_path


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def test_every_part_has_its_curves(folder: Path) -> None:
    found = read(folder)
    tags = {tag for tag in found.Tags()["scalars"] if tag.startswith("part")}
    assert tags == {f"part/{number}/{metric}" for number in range(3) for metric in CURVES}
    points = [(event.step, event.value) for event in found.Scalars("part/0/waiting")]
    assert points == [(10, 0.25), (20, 0.5), (60, 3.5)]
    assert [event.value for event in found.Scalars("part/2/steps_taken")] == [10, 20, 50]


def test_many_parts_have_bounded_tags(tmp_path: Path) -> None:
    recorder = TensorBoardRecorder(tmp_path)
    recorder.begin(replace(description(), max=2))
    recorder.parts(10, [part(number, 10, computing=float(number)) for number in range(3)])
    recorder.close()
    found = read(tmp_path)
    tags = found.Tags()["scalars"]
    assert len(tags) == (2 + 3) * len(CURVES)
    ends = [found.Scalars(f"parts/computing/{end}")[0].value for end in ("mean", "min", "max")]
    assert ends == [1.0, 0.0, 2.0]
