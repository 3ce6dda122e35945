"""Parts in the Channels tab: which agents are whose, their metrics as arrays, where they run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from antiphon.telemetry import read_run
from antiphon.telemetry.event_file import EventFile
from tests.kit.tab import PARTS, ChannelsWriter, graph_document
from tests.telemetry.parts.made import PLACEMENT, STEPS, description, record, rows


def test_the_graph_says_which_part_an_agent_is_in() -> None:
    found = graph_document(description())
    assert found["parts"] == 3
    assert {agent["name"]: agent["part"] for agent in found["agents"]} == PLACEMENT
    assert "waiting" in found["explanations"]["part"]


def test_metrics_of_parts_are_arrays_by_step(tmp_path: Path) -> None:
    record(tmp_path)
    run = read_run(tmp_path)
    waiting = run.metrics["part", "waiting"]
    np.testing.assert_array_equal(waiting.steps, STEPS)
    np.testing.assert_array_equal(waiting.values, np.float32([[0.25] * 3, [0.5] * 3, [3.5, 1.5, 1.25]]))
    np.testing.assert_array_equal(run.metrics["part", "waiting_for"].values[-1], np.float32([2, 0, 1]))
    np.testing.assert_array_equal(run.metrics["part", "steps_taken"].values[-1], np.float32([60, 60, 50]))
    assert run.parts == {"machines": ["node-1", "node-2", "node-3"]}


def test_where_the_parts_run_is_written_only_when_it_changes(tmp_path: Path) -> None:
    events = EventFile(tmp_path)
    writer = ChannelsWriter(events, description())
    writer.begin(description())
    documents: list[int] = []
    keep = events.arrays

    def arrays(step: int, values: Iterable[tuple[str, object]], plugin: str) -> None:
        rows = list(values)
        documents.extend(step for tag, _ in rows if tag == PARTS)
        keep(step, rows, plugin)

    events.arrays = arrays  # type: ignore[method-assign]
    for step in (10, 20, 30):
        writer.parts(step, rows(step))
    moved = [replace(rows(40)[1], machine="node-9")]
    writer.parts(40, moved)
    writer.parts(50, rows(50)[:1])
    events.close()
    assert documents == [10, 40]
    assert read_run(tmp_path).parts == {"machines": ["node-1", "node-9", "node-3"]}
    taken = read_run(tmp_path).metrics["part", "steps_taken"].values
    np.testing.assert_array_equal(taken[-2:], np.float32([[np.nan, 40, np.nan], [50, np.nan, np.nan]]))
