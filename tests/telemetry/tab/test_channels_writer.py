"""What the Channels tab is written: graph, places, timeline, one array per metric and row, messages, parts."""

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

from antiphon.telemetry import Metric, RunDescription, read_run
from antiphon.telemetry.event_file import EventFile
from antiphon.telemetry.graph_layout import positions
from antiphon.telemetry.tab.channels_writer import ChannelsWriter
from antiphon.telemetry.tab.documents import graph_document
from antiphon.telemetry.tab.explanations import EXPLANATIONS
from antiphon.telemetry.tab.series import Messages
from antiphon.telemetry.tab.tags import (
    GRAPH,
    TIMELINE,
    parsed,
)
from antiphon.telemetry.timeline_text import AgentTimes, ChannelTimes, Timeline
from tests.kit.tab import cloud
from tests.telemetry.parts.made import PLACEMENT, STEPS, record
from tests.telemetry.parts.made import description as description_of_parts


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


@pytest.mark.long
def test_every_metric_of_a_run_is_explained(tmp_path: Path) -> None:
    from antiphon import Simulation

    told = []
    for name in ("digits-mlp", "two-timescales", "lossy"):
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


# --- arrays ----------------------------------------------------------------------------------------------


def messages(rows: int = 3, samples: int = 40, size: int = 5) -> Messages:
    generator = np.random.default_rng(0)
    drawn = [
        generator.normal(size=(samples, size)) * [0.1, 3, 0.2, 1, 0.3][:size] + row for row in range(rows)
    ]
    labelled = [np.column_stack([part, np.arange(samples) % 4]).astype(np.float32) for part in drawn]
    return Messages(np.arange(rows) * 10, labelled)


def test_the_first_direction_is_that_of_most_variance_the_same_for_all_rows() -> None:
    given = messages()
    found = cloud(given)
    whole = np.concatenate([row[:, :-1] for row in given.samples])
    _, singular, directions = np.linalg.svd(whole - whole.mean(0), full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    np.testing.assert_allclose(found.explained, shares[:2], rtol=1e-4)
    for row, part in zip(found.points, given.samples, strict=True):
        expected = (part[:, :-1] - whole.mean(0)) @ directions[:2].T
        np.testing.assert_allclose(np.abs(row), np.abs(expected), rtol=1e-3, atol=1e-4)
    assert found.labels[1].tolist() == [float(i % 4) for i in range(40)]


@pytest.mark.parametrize(("size", "broken"), [(2, np.inf), (3, -np.inf), (5, np.nan)])
def test_what_is_not_finite_is_left_out_and_short_rows_are_filled(size: int, broken: float) -> None:
    """It never enters a product, of which numpy warns on some processors and for some sizes."""
    given = messages(rows=2, size=size)
    for row in given.samples:
        row[:, 1] = 1.0  # it does not vary: directions are zero there, and zero times infinity is no number
    given.samples[0][3, 1] = broken
    found = cloud(Messages(given.steps, [given.samples[0], given.samples[1][:7]]))
    assert np.flatnonzero(np.isnan(found.points[0]).any(1)).tolist() == [3]
    assert np.isfinite(found.points[1, :7]).all()
    assert np.isnan(found.points[1, 7:]).all()
    assert np.isnan(found.labels[1, 7:]).all()


# --- places ----------------------------------------------------------------------------------------------


def graph_of(pairs: list[tuple[int, int]], periods: dict[int, int] | None = None) -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for a, b in pairs:
        graph.add_edge(f"a{a}", f"a{b}", key=0)
    for name, period in (periods or {}).items():
        graph.add_node(f"a{name}", period=period)
    return graph


def ring(count: int) -> nx.MultiDiGraph[str]:
    return graph_of([(i, (i + 1) % count) for i in range(count)])


@pytest.mark.parametrize("count", [12, 120])
def test_who_talks_stands_near_and_the_same_graph_is_placed_alike(count: int) -> None:
    found, _ = positions(ring(count))
    points = np.array([found[f"a{i}"] for i in range(count)])
    neighbours = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).mean()
    anybody = np.linalg.norm(points[:, None] - points[None], axis=2).mean()
    assert neighbours < 0.5 * anybody
    again, _ = positions(ring(count))
    assert all(np.array_equal(again[name], place) for name, place in found.items())


def test_timescales_are_levels_the_slowest_on_top() -> None:
    pairs = [(i, 50 + i % 5) for i in range(50)] + [(50 + i, 99) for i in range(5)]
    periods = dict.fromkeys(range(50), 1) | {50 + i: 4 for i in range(5)} | {99: 16}
    found, by_timescale = positions(graph_of(pairs, periods))
    assert by_timescale
    heights = {
        period: [found[f"a{n}"][1] for n, p in periods.items() if p == period] for period in (1, 4, 16)
    }
    assert max(heights[1]) < 1 / 3 < min(heights[4])
    assert max(heights[4]) < 2 / 3 < min(heights[16])
    assert len(set(np.round(heights[1], 6))) == 2, "fifty stand in two rows"
    assert len({tuple(np.round(place, 9)) for place in found.values()}) == 56


# --- parts -----------------------------------------------------------------------------------------------


def test_the_graph_says_which_part_an_agent_is_in() -> None:
    found = graph_document(description_of_parts())
    assert found["parts"] == 3
    assert {agent["name"]: agent["part"] for agent in found["agents"]} == PLACEMENT
    assert "waiting" in found["explanations"]["part"]


def test_metrics_of_parts_are_arrays_by_step(tmp_path: Path) -> None:
    record(tmp_path)
    run = read_run(tmp_path)
    waiting = run.metrics["part", "waiting"]
    np.testing.assert_array_equal(waiting.steps, STEPS)
    np.testing.assert_array_equal(waiting.values, np.float32([[0.25] * 3, [0.5] * 3, [3.5, 1.5, 1.25]]))
    np.testing.assert_array_equal(run.metrics["part", "steps_taken"].values[-1], np.float32([60, 60, 50]))
    assert run.parts == {"machines": ["node-1", "node-2", "node-3"]}
