"""Which tags a run gets: all of a small graph, some and aggregates of a large one."""

from __future__ import annotations

import math

import networkx as nx

from antiphon.telemetry import Figure, RunDescription
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


def test_what_the_environment_says_has_tags_of_its_own() -> None:
    curves = Curves(describe(3, (0,), top=3))
    rows = [Figure("env", "", "difficulty", 3.0)]
    assert list(curves.scalars(rows)) == [("env/difficulty", "env/difficulty", 3.0)]
