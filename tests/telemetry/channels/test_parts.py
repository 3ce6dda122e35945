"""Parts in the Channels tab: which agents are whose, their figures as arrays, where they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from antiphon.telemetry.channels.documents import graph_document
from antiphon.telemetry.channels.reading import read_run
from antiphon.telemetry.channels.recorder import ChannelsWriter, gathered
from antiphon.telemetry.channels.tags import PARTS
from antiphon.telemetry.event_file import EventFile
from antiphon.telemetry.history import History
from tests.telemetry.parts.made import PLACEMENT, STEPS, description, record, rows


def test_the_graph_says_which_part_an_agent_is_in() -> None:
    found = graph_document(description())
    assert found["parts"] == 3
    assert {agent["name"]: agent["part"] for agent in found["agents"]} == PLACEMENT
    assert "waiting" in found["figures"]["part"]


def test_figures_of_parts_are_arrays_by_step(tmp_path: Path) -> None:
    record(tmp_path)
    run = read_run(tmp_path)
    waiting = run.figures["part", "waiting"]
    np.testing.assert_array_equal(waiting.steps, STEPS)
    np.testing.assert_array_equal(waiting.values, np.float32([[0.25] * 3, [0.5] * 3, [3.5, 1.5, 1.25]]))
    np.testing.assert_array_equal(run.figures["part", "waiting_for"].values[-1], np.float32([2, 0, 1]))
    np.testing.assert_array_equal(run.figures["part", "alive"].values[-1], np.float32([1, 1, 0]))
    np.testing.assert_array_equal(run.figures["part", "restarts"].values[-1], np.float32([0, 0, 1]))
    assert run.parts == {"machines": ["node-1", "node-2", "node-3"]}
    assert run.catalogue()["parts"]
    assert min(run.catalogue()["part"]) == "alive"


def test_where_the_parts_run_is_written_only_when_it_changes(tmp_path: Path) -> None:
    events = EventFile(tmp_path)
    writer = ChannelsWriter(events, description())
    documents: list[int] = []
    keep = events.document

    def document(step: int, tag: str, text: str, plugin: str) -> None:
        if tag == PARTS:
            documents.append(step)
        keep(step, tag, text, plugin)

    events.document = document  # type: ignore[method-assign]
    for step in (10, 20, 30):
        writer.parts(step, rows(step))
    moved = [replace(rows(40)[1], machine="node-9")]
    writer.parts(40, moved)
    writer.parts(50, rows(50)[:1])
    events.close()
    assert documents == [10, 40]
    assert read_run(tmp_path).parts == {"machines": ["node-1", "node-9", "node-3"]}
    alive = read_run(tmp_path).figures["part", "alive"].values
    np.testing.assert_array_equal(alive[-2:], np.float32([[np.nan, 1, np.nan], [1, np.nan, np.nan]]))


def test_a_run_resumed_on_other_parts_shows_those(tmp_path: Path) -> None:
    record(tmp_path)
    graph = description().graph
    for name in graph:
        graph.nodes[name]["part"] = int(name > "c")
    events = EventFile(tmp_path)
    events.forget_after(20)
    writer = ChannelsWriter(events, description(start_step=20, graph=graph))
    writer.parts(30, [replace(row, machine="here") for row in rows(30)[:2]])
    events.close()
    run = read_run(tmp_path)
    assert run.graph["parts"] == 2
    assert run.parts == {"machines": ["here", "here"]}
    np.testing.assert_array_equal(run.figures["part", "calls"].steps, [30])


def test_what_is_in_memory_is_what_is_written(tmp_path: Path) -> None:
    record(tmp_path)
    history = History()
    for step in STEPS:
        history.parts(step, rows(step - 1))
        history.parts(step, rows(step))
    written = read_run(tmp_path)
    inside = gathered(tmp_path.name, graph_document(description()), None, history)
    assert inside.parts == written.parts
    assert inside.figures.keys() == written.figures.keys()
    for about, series in inside.figures.items():
        np.testing.assert_array_equal(series.steps, written.figures[about].steps)
        np.testing.assert_array_equal(series.values, written.figures[about].values)
    history.parts(15, rows(15))
    assert list(history.part_figures) == [10, 15], "it has begun again at step 15"
