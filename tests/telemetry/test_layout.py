"""Which tags a run gets: all of a small graph, some and aggregates of a large one."""

from __future__ import annotations

import math
import re

import networkx as nx

from antiphon.telemetry import Figure, Names, RunDescription
from antiphon.telemetry.tensorboard import Curves


def describe(agents: int, readouts: tuple[int, ...], top: int, strides: int = 1) -> RunDescription:
    """A ring, every agent sending to the next `strides`, with the given readouts."""
    names = [f"n{index:04}" for index in range(agents)]
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for index, name in enumerate(names):
        graph.add_node(name, role="readout" if index in readouts else "agent")
    pairs = sorted((names[i], names[(i + s) % agents]) for i in range(agents) for s in range(1, strides + 1))
    for a, b in pairs:
        graph.add_edge(a, b, key=0, coupling="decoupled", delay=1)
    channels = [(f"{a}->{b}", f"{a}__to__{b}") for a, b in pairs]
    return RunDescription(
        yaml="", hparams={}, graph=graph, names={"agents": names, "channels": channels}, top=top
    )


def rows_of(description: RunDescription, metrics: int = 1) -> list[Figure]:
    rows = [
        Figure("agent", name, f"m{m}", float(i))
        for i, name in enumerate(description.names["agents"])
        for m in range(metrics)
    ]
    rows += [
        Figure("channel", name, f"m{m}", float(i))
        for i, (name, _) in enumerate(description.names["channels"])
        for m in range(metrics)
    ]
    return [*rows, Figure("run", "", "steps_per_second", 7.0)]


def test_a_small_graph_has_a_tag_per_figure_and_no_aggregates() -> None:
    curves = Curves(describe(3, (0,), top=3))
    assert {tag: shown for tag, shown, _ in curves.scalars(rows_of(describe(3, (0,), top=3)))} == {
        "agent/n0000/m0": "agent/n0000/m0",
        "agent/n0001/m0": "agent/n0001/m0",
        "agent/n0002/m0": "agent/n0002/m0",
        "channel/n0000__to__n0001/m0": "channel/n0000->n0001/m0",
        "channel/n0001__to__n0002/m0": "channel/n0001->n0002/m0",
        "channel/n0002__to__n0000/m0": "channel/n0002->n0000/m0",
        "run/steps_per_second": "run/steps_per_second",
    }


def test_a_large_graph_has_bounded_tags() -> None:
    description = describe(1000, (0,), top=32, strides=4)
    assert len(description.names["channels"]) == 4000
    tags = [tag for tag, _, _ in Curves(description).scalars(rows_of(description, metrics=6))]
    assert len(tags) == len(set(tags)) == 6 * (32 + 32 + 3 + 3) + 1


def test_readouts_and_the_channels_into_them_come_first() -> None:
    description = describe(10, (4, 8), top=3)
    tags = [tag for tag, _, _ in Curves(description).scalars(rows_of(description))]
    assert [tag for tag in tags if tag.startswith("agent/")] == [
        "agent/n0000/m0",
        "agent/n0004/m0",
        "agent/n0008/m0",
    ]
    assert [tag for tag in tags if tag.startswith("channel/")] == [
        "channel/n0000__to__n0001/m0",
        "channel/n0003__to__n0004/m0",
        "channel/n0007__to__n0008/m0",
    ]


def test_aggregates_are_over_all_finite_values() -> None:
    curves = Curves(describe(4, (), top=2))
    rows = [Figure("agent", f"n000{i}", "loss", v) for i, v in enumerate((1.0, math.nan, math.inf, 5.0))]
    values = {tag: value for tag, _, value in curves.scalars(rows) if tag.startswith("agents/")}
    assert values == {"agents/loss/mean": 3.0, "agents/loss/min": 1.0, "agents/loss/max": 5.0}


def test_charts_grow_with_the_metrics_seen() -> None:
    description = describe(5, (), top=2)
    curves = Curves(description)
    assert curves.charts() == {}
    list(curves.scalars(rows_of(description, metrics=2)))
    assert curves.metric_count == 4
    charts = curves.charts()
    assert list(charts) == [
        "Channels: mean, smallest and largest",
        "Channels",
        "Agents: mean, smallest and largest",
        "Agents",
    ]
    assert charts["Agents: mean, smallest and largest"][0] == (
        "m0",
        "agents/m0/mean",
        ("agents/m0/min", "agents/m0/max"),
    )


def two_levels(top: int = 32) -> RunDescription:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, period in (("a", 1), ("b", 1), ("c", 4)):
        graph.add_node(name, role="agent", period=period)
    graph.add_edge("a", "c", key=0, coupling="decoupled", delay=0, carries="message")
    graph.add_edge("a", "a", key="state", coupling="decoupled", delay=0, carries="state")
    graph.add_edge("a", "a", key="stat", coupling="decoupled", delay=1)
    channels = [("a->a:stat", "a__to__a__stat"), ("a->a:state", "a__to__a__state"), ("a->c", "a__to__c")]
    names: Names = {"agents": ["a", "b", "c"], "channels": channels}
    return RunDescription(yaml="", hparams={}, graph=graph, names=names, top=top)


def test_agents_of_one_period_are_a_level_with_curves_of_its_own() -> None:
    curves = Curves(two_levels())
    losses = {"a": 1.0, "b": 3.0, "c": 5.0}
    rows = [Figure("agent", name, "loss", value) for name, value in losses.items()]
    rows += [Figure("agent", "a", "accuracy", 0.5), Figure("agent", "b", "accuracy", math.nan)]
    rows += [Figure("agent", "c", "updates", 7.0)]
    written = [row for row in curves.scalars(rows) if row[0].startswith("level/")]
    assert written == [
        ("level/every_1/loss", "level/every 1/loss", 2.0),
        ("level/every_4/loss", "level/every 4/loss", 5.0),
        ("level/every_1/accuracy", "level/every 1/accuracy", 0.5),
    ]
    charts = curves.charts()
    assert next(iter(charts)) == "Levels"
    assert [chart.title for chart in charts["Levels"]] == ["loss", "accuracy"]
    tags = [tag for tag, _, _ in written]
    assert [tag for tag in tags if re.match(charts["Levels"][0].tags, tag)] == tags[:2]


def test_states_have_charts_apart_from_messages() -> None:
    curves = Curves(two_levels())
    rows = [Figure("channel", name, "age", 1.0) for name in ("a->a:stat", "a->a:state", "a->c")]
    tags = [tag for tag, _, _ in curves.scalars(rows)]
    charts = curves.charts()
    assert list(charts) == ["Channels", "States"]
    drawn = {name: [tag for tag in tags if re.match(charts[name][0].tags, tag)] for name in charts}
    assert drawn == {
        "Channels": ["channel/a__to__a__stat/age", "channel/a__to__c/age"],
        "States": ["channel/a__to__a__state/age"],
    }
