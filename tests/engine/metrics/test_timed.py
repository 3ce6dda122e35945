"""The seconds beside the figures: once for each step, and never backwards, whatever ended an earlier session."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from antiphon.engine.metrics.figures import Timed
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.scenarios import load
from antiphon.telemetry import CsvRecorder, Figure


def test_seconds_come_once_a_step_and_the_rate_is_of_the_steps_since_the_row_before(tmp_path: Path) -> None:
    """The rate counts the steps of all environments; where no time has passed there is none."""
    times = iter([10.0, 12.0, 12.0, 16.0])
    recorder = Timed(CsvRecorder(tmp_path / "metrics.csv"), lambda: next(times), start=4, batch=3)
    recorder.begin(None)  # type: ignore[arg-type]
    for step in (6, 6, 7, 15):
        recorder.figures(step, [Figure("agent", "a", "loss", 0.5)] if step == 6 else [])
    recorder.close()
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == [
        "6,agent,a,loss,0.5",
        "6,run,,seconds,12.0",
        "6,run,,steps_per_second,3.0",
        "6,agent,a,loss,0.5",
        "7,run,,seconds,12.0",
        "15,run,,seconds,16.0",
        "15,run,,steps_per_second,6.0",
    ]


def seconds_of(run: Path) -> list[tuple[int, float]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["kind"], row["metric"]) == ("run", "seconds")]
    return [(int(row["step"]), float(row["value"])) for row in rows]


def test_seconds_go_on_where_a_crashed_session_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(step: int, scores: object) -> None:
        if step == 4:
            raise MemoryError("no more")

    clock = [0.0]
    monkeypatch.setattr(
        "antiphon.engine.runs.run_loop.time.perf_counter",
        lambda: clock.__setitem__(0, clock[0] + 1) or clock[0],
    )
    values = {"depth": 2, "width": 8, "batch": 16}
    request = Request(template=load("digits-mlp"), values=values, steps=4)
    with pytest.raises(MemoryError):
        begin(request, tmp_path / "run").train(crash, checkpoint_every=2)
    before = seconds_of(tmp_path / "run")
    assert [step for step, _ in before] == [1, 4]
    again = resume(tmp_path / "run")
    assert isinstance(again, Run)
    result = again.train()[0].result
    after = seconds_of(tmp_path / "run")
    assert [step for step, _ in after] == [1, 4]
    assert after[0] == before[0]
    assert after[0][1] < after[1][1] <= result["seconds"]
