"""What the Channels tab is written: graph, timeline, one array per metric and row, messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from antiphon.telemetry import AgentTimes, ChannelTimes, Metric, RunDescription, Timeline
from antiphon.telemetry.event_file import EventFile
from antiphon.telemetry.tab.channels_writer import ChannelsWriter
from antiphon.telemetry.tab.documents import graph_document
from antiphon.telemetry.tab.explanations import EXPLANATIONS
from antiphon.telemetry.tab.tags import (
    GRAPH,
    TIMELINE,
    messages_tag,
    metric_tag,
    parsed,
)


def description(**changes: Any) -> RunDescription:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("b", role="readout", period=4, phase=3, unroll=2, about={"network": "mlp 8"})
    graph.add_node("a", role="agent", period=1)
    graph.add_edge(
        "a", "b", key=0, coupling="decoupled", delay=2, drop=0.25, size=8, about={"link": "delay 2"}
    )
    graph.add_edge("a", "b", key="x", coupling="locked")
    graph.add_edge("b", "b", key="state", carries="state", coupling="detached")
    channels = [("a->b", "a__to__b"), ("a->b:x", "a__to__b__x"), ("b->b:state", "b__to__b__state")]
    given: dict[str, Any] = {
        "yaml": "",
        "hparams": {"seed": 7},
        "graph": graph,
        "names": {"agents": ["a", "b"], "channels": channels},
        "scenario": "pair",
        "period": 10,
        "until": 40,
    }
    return RunDescription(**(given | changes))


def times() -> Timeline:
    yes, no = np.ones(3, bool), np.zeros(3, bool)
    ends = np.array([False, True, False])
    agent = AgentTimes(name="a", ticks=yes, ends=ends)
    channel = ChannelTimes(
        name="a->b",
        sender="a",
        receiver="b",
        coupling="decoupled",
        state=False,
        sent=yes,
        stamps=((), (4,), (5,)),
        due=yes,
        unread=np.array([False, False, True]),
        cut=no,
        back=np.zeros(3, np.int64),
        ages=np.array([-1, 1, 1]),
    )
    return Timeline(
        start=4, steps=3, agents=(agent,), channels=(channel,), episode_ends=np.array([False, False, True])
    )


def values(folder: Path) -> Iterator[tuple[int, str, Any, str]]:
    """Every value for the plugin: step, tag, content, the plugin's name where it is told."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                content = tensor_util.make_ndarray(value.tensor)
                yield event.step, value.tag, content, value.metadata.plugin_data.plugin_name


def test_rows_are_arrays_in_the_order_of_the_graph(tmp_path: Path) -> None:
    events = EventFile(tmp_path)
    described = description(start_step=5, timeline=times())
    writer = ChannelsWriter(events, described)
    writer.begin(described)
    rows = [
        Metric("channel", "b->b:state", "age", 3.0),
        Metric("channel", "a->b", "age", 1.0),
        Metric("agent", "b", "loss", 0.5),
        Metric("agent", "nobody", "loss", 9.0),
        Metric("env", "", "difficulty", 9.0),
        Metric("run", "", "seconds", 9.0),
    ]
    writer.metrics(10, rows)
    messages = np.arange(6, dtype=np.float32).reshape(2, 3)
    writer.samples(10, [("a->b:x", messages), ("unknown", messages)])
    events.close()
    found = {tag: (step, content) for step, tag, content, _ in values(tmp_path)}
    tags = ["antiphon/channel/age", "antiphon/agent/loss", "antiphon/messages/1"]
    assert list(found) == [GRAPH, TIMELINE, *tags]
    np.testing.assert_array_equal(found["antiphon/channel/age"][1], np.float32([1, np.nan, 3]))
    np.testing.assert_array_equal(found["antiphon/agent/loss"][1], np.float32([np.nan, 0.5]))
    np.testing.assert_array_equal(found["antiphon/messages/1"][1], messages)
    assert [step for step, _ in found.values()] == [5, 5, 10, 10, 10]
    graph = json.loads(found[GRAPH][1].item())
    assert [agent["name"] for agent in graph["agents"]] == ["a", "b"]
    lines = json.loads(found[TIMELINE][1].item())["lines"]
    assert lines[0].split() == ["step", "5", "6", "7", "|"]


def test_the_graph_as_a_document() -> None:
    found = graph_document(description())
    a, b = found["agents"]
    assert (a["role"], a["period"], a["phase"], a["unroll"], a["about"]) == ("agent", 1, 0, 1, {})
    assert (b["role"], b["period"], b["phase"], b["unroll"]) == ("readout", 4, 3, 2)
    assert b["about"] == {"network": "mlp 8"}
    assert found["by_timescale"]
    assert b["y"] > a["y"], "the slowest are on top"
    first, second, state = found["channels"]
    assert (first["from"], first["to"], first["delay"], first["drop"], first["size"]) == (0, 1, 2, 0.25, 8)
    assert first["about"] == {"link": "delay 2"}
    assert (second["coupling"], second["delay"]) == ("locked", 0)
    assert (second["size"], second["state"]) == (None, False)
    assert (state["from"], state["to"], state["state"]) == (1, 1, True)
    assert (found["scenario"], found["every"], found["until"]) == ("pair", 10, 40)
    assert "`" not in json.dumps(found, allow_nan=False), "the page renders no marks of code"


@pytest.mark.parametrize(
    ("tag", "meaning"),
    [
        (metric_tag("channel", "sg_loss"), ("channel", "sg_loss")),
        (messages_tag(12), 12),
        (GRAPH, None),
        ("other/channel/loss", None),
    ],
)
def test_tags_say_what_they_hold(tag: str, meaning: object) -> None:
    assert parsed(tag) == meaning


@pytest.mark.long
def test_every_metric_of_a_run_is_explained(tmp_path: Path) -> None:
    from antiphon import Simulation

    told = []
    for name in ("digits-mlp", "two-timescales", "lossy", "corporation"):
        with Simulation(name, logdir=tmp_path / name) as simulation:
            simulation.run(steps=20)
        told += [parsed(tag) for _, tag, _, _ in values(tmp_path / name) if tag.startswith("antiphon/")]
    known = {(family, metric) for family, found in EXPLANATIONS.items() for metric in found}
    logged = {found for found in told if isinstance(found, tuple)}
    assert len(logged) > 20
    assert logged <= known
    for found in EXPLANATIONS.values():
        for explanation in found.values():
            assert explanation.says.endswith(".")
            assert explanation.says.partition(" Good: ")[0].count(". ") == 0, "one sentence, and what is good"
