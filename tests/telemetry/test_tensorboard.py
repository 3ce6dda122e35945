"""The TensorBoard recorder, of runs and of their parts, read back with TensorBoard's own reader."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from antiphon.telemetry import Metric, RunDescription, read_run
from antiphon.telemetry.tensorboard import Curves, TensorBoardRecorder
from tests.telemetry.parts.made import STEPS, description, part, rows


def describe(
    agents: int = 3,
    *,
    top: int = 32,
    strides: int = 1,
    start: int = 0,
    readouts: tuple[int, ...] = (0,),
) -> RunDescription:
    names = [f"n{index:04}" for index in range(agents)]
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for index, name in enumerate(names):
        graph.add_node(name, role="readout" if index in readouts else "agent")
    for index in range(agents):
        for stride in range(1, strides + 1):
            graph.add_edge(
                names[index], names[(index + stride) % agents], key=0, coupling="decoupled", delay=1
            )
    return RunDescription(
        graph=graph,
        names={
            "agents": names,
            "channels": [(f"{a}->{b}", f"{a}__to__{b}") for a, b in sorted(graph.edges())],
        },
        start_step=start,
        max=top,
    )


def rows_at(step: int, description: RunDescription) -> list[Metric]:
    rows = [Metric("agent", name, "loss", 1.0 / step) for name in description.names["agents"]]
    rows += [Metric("channel", name, "sg_loss", 2.0 / step) for name, _ in description.names["channels"]]
    return [*rows, Metric("run", "", "steps_per_second", float(step))]


@contextmanager
def recording(logdir: Path, description: RunDescription | None = None) -> Iterator[TensorBoardRecorder]:
    """A recorder that has begun, and is closed afterwards."""
    recorder = TensorBoardRecorder(logdir)
    recorder.begin(description or describe())
    yield recorder
    recorder.close()


def record(logdir: Path, steps: range, start_step: int = 0, result: dict[str, Any] | None = None) -> None:
    description = describe(start=start_step)
    recorder = TensorBoardRecorder(logdir)
    recorder.begin(description)
    for step in steps:
        recorder.metrics(step, rows_at(step, description))
    if result is not None:
        recorder.end(result)
    recorder.close()
    recorder.close()


def read(logdir: Path) -> Any:
    everything = dict.fromkeys(("scalars", "images", "tensors"), 0)
    return EventAccumulator(str(logdir), size_guidance=everything).Reload()


def curve(logdir: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(logdir).Scalars(tag)]


def test_curves_come_back_with_their_steps(tmp_path: Path) -> None:
    record(tmp_path, range(100, 400, 100))
    assert sorted(read(tmp_path).Tags()["scalars"]) == [
        "agent/n0000/loss",
        "agent/n0001/loss",
        "agent/n0002/loss",
        "channel/n0000__to__n0001/sg_loss",
        "channel/n0001__to__n0002/sg_loss",
        "channel/n0002__to__n0000/sg_loss",
        "run/steps_per_second",
    ]
    assert curve(tmp_path, "run/steps_per_second") == [(100, 100.0), (200, 200.0), (300, 300.0)]


def test_readouts_and_the_channels_into_them_come_first() -> None:
    description = describe(10, readouts=(4, 8), top=3)
    tags = [tag for tag, _ in Curves(description).scalars(rows_at(1, description))]
    shown = [f"agent/n000{i}/loss" for i in (0, 4, 8)]
    shown += [f"channel/n000{i}__to__n000{i + 1}/sg_loss" for i in (0, 3, 7)]
    assert [tag for tag in tags if tag.startswith(("agent/", "channel/"))] == shown


def test_aggregates_are_over_all_finite_values_and_the_environments_own_metrics_are_shown() -> None:
    curves = Curves(describe(4, top=2))
    rows = [Metric("agent", f"n000{i}", "loss", v) for i, v in enumerate((1.0, math.nan, math.inf, 5.0))]
    rows.append(Metric("env", "", "difficulty", 3.0))
    values = {tag: value for tag, value in curves.scalars(rows) if not tag.startswith("agent/")}
    ends = {"agents/loss/mean": 3.0, "agents/loss/min": 1.0, "agents/loss/max": 5.0}
    assert values == {**ends, "env/difficulty": 3.0}


def test_the_channels_tab_has_the_scores_of_the_result_at_the_last_step(tmp_path: Path) -> None:
    scored = {"n0001": {"accuracy": 0.5, "loss": None, "return": 2.0, "updates": 9.0}, "n0000": {}}
    record(tmp_path, range(1, 4), result={"agents": scored})
    metrics = read_run(tmp_path).metrics
    for metric, value in (("test_accuracy", 0.5), ("test_return", 2.0)):
        series = metrics["agent", metric]
        assert series.steps.tolist() == [3]
        assert (series.values[0, 1], np.isnan(series.values[0, 0])) == (value, True)
    assert not {("agent", "test_loss"), ("agent", "test_updates")} & metrics.keys()


@pytest.mark.long
def test_a_thousand_agents_have_bounded_tags(tmp_path: Path) -> None:
    description = describe(1000, strides=4)
    with recording(tmp_path, description) as recorder:
        recorder.metrics(1, rows_at(1, description))
    events = read(tmp_path)
    assert len(events.Tags()["scalars"]) == 32 + 32 + 3 + 3 + 1


# --- parts -----------------------------------------------------------------------------------------------


CURVES = {"steps_taken", "computing", "waiting", "bytes_sent", "bytes_received", "calls"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recorder = TensorBoardRecorder(tmp_path)
    recorder.begin(description())
    for step in STEPS:
        recorder.metrics(step, [Metric("agent", "a", "loss", 1.0)])
        recorder.parts(step, rows(step))
    recorder.close()
    return tmp_path


def curves_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def test_many_parts_have_bounded_tags(tmp_path: Path) -> None:
    recorder = TensorBoardRecorder(tmp_path)
    recorder.begin(replace(description(), max=2))
    recorder.parts(10, [part(number, 10, computing=float(number)) for number in range(3)])
    recorder.close()
    found = curves_of(tmp_path)
    tags = found.Tags()["scalars"]
    assert len(tags) == (2 + 3) * len(CURVES)
    ends = [found.Scalars(f"parts/computing/{end}")[0].value for end in ("mean", "min", "max")]
    assert ends == [1.0, 0.0, 2.0]
