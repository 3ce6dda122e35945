"""The work of building and evaluating grows with the number of agents, not with its square."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

from antiphon import Scenario, Simulation
from antiphon.envs import from_tensors

FEW, TIMES = 16, 4
SLACK, CONSTANT = 1.1, 40
"""A chain of four times as many agents has a little more than four times as many channels; and what is done once."""
ENV = from_tensors(x=torch.randn(40, 4), label=torch.arange(40) % 3, training_only=["label"])


def calls(work: Callable[[], object]) -> Counter[str]:
    """How often each function is called, Python's own included."""
    found: Counter[str] = Counter()

    def count(frame: FrameType, event: str, function: Any) -> None:
        if event == "call":
            found[f"{frame.f_code.co_filename}:{frame.f_code.co_firstlineno} {frame.f_code.co_name}"] += 1
        elif event == "c_call":
            found[f"{frame.f_code.co_filename}:{frame.f_lineno} {function.__qualname__}"] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


Arcs = list[tuple[int, int]]
LATER: dict[str, Any] = {"link": {"delay": 1}}


def regular(count: int) -> Arcs:
    return list(nx.random_regular_graph(4, count, seed=1).to_directed().edges)


def rings(count: int) -> Arcs:
    """Rings of eight, in which every path has filled after as many steps."""
    return [(i, i // 8 * 8 + (i + 1) % 8) for i in range(count)]


def star(count: int) -> Arcs:
    return [(0, i) for i in range(1, count)]


KINDS: dict[str, tuple[Callable[[int], Arcs], dict[str, Any], dict[str, Any]]] = {
    "regular": (regular, {}, LATER),
    "locked": (lambda count: list(pairwise(range(count))), {}, {"coupling": "locked"}),
    "tied": (rings, {"share": "all"}, {"port": "out", **LATER}),
    "delayed": (rings, {}, {"coupling": "delayed", **LATER}),
    "rings": (rings, {}, LATER),
    "star": (star, {}, {}),
}


def simulate(kind: str, count: int) -> Simulation:
    arcs, agent, channel = KINDS[kind]
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for i in range(count):
        objective = {"kind": "classification", "target": "label"}
        network = {"kind": "mlp", "hidden": [4]}
        graph.add_node(f"n{i:03}", observes=["x"], network=network, objective=objective, **agent)
    for one, other in arcs(count):
        graph.add_edge(f"n{one:03}", f"n{other:03}", size=4, **channel)
    return Simulation(Scenario.from_graph(graph, env=ENV, training={"batch": 4}))


def assert_linear(few: Counter[str], many: Counter[str]) -> None:
    grown = {
        name: (few[name], count)
        for name, count in many.items()
        if count > SLACK * TIMES * few[name] + CONSTANT
    }
    assert not grown


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k in ("regular", "tied") else (pytest.mark.nightly,)) for k in KINDS]
)
def test_no_function_is_called_more_often_per_agent_where_there_are_more(kind: str) -> None:
    simulate(kind, FEW)  # imports and caches
    few, many = (calls(lambda count=count: simulate(kind, count)) for count in (FEW, TIMES * FEW))
    assert sum(few.values()) > 100 * FEW
    assert_linear(few, many)


@pytest.mark.long
def test_agents_have_no_tensors_but_parameters_statistics_and_states_of_optimisers() -> None:
    def made() -> int:
        gc.collect()
        return sum(type(each) is Tensor for each in gc.get_objects())

    kept, counts = [], []
    for count in (FEW, TIMES * FEW):
        before = made()
        kept.append(simulate("rings", count))
        counts.append(made() - before)
    models: list[Any] = list(kept[0].agents.values())
    models += [m for c in kept[0].channels.values() if (m := c.synthetic_gradient) is not None]
    own = sum(len(m.parameters) + len(m.buffers) + sum(map(len, m.optimiser.values())) for m in models) // FEW
    assert counts[1] - counts[0] <= (TIMES - 1) * FEW * (own + 1)  # a channel's zeros are a view
