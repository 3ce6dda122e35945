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

from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.scenarios import Scenario

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


def regular(count: int) -> tuple[list[tuple[int, int]], dict[str, Any], dict[str, Any]]:
    arcs = list(nx.random_regular_graph(4, count, seed=1).to_directed().edges)
    return arcs, {}, {"size": 4, "link": {"delay": 1}}


def chain(count: int) -> tuple[list[tuple[int, int]], dict[str, Any], dict[str, Any]]:
    return list(pairwise(range(count))), {}, {"size": 4}


def locked(count: int) -> tuple[list[tuple[int, int]], dict[str, Any], dict[str, Any]]:
    return list(pairwise(range(count))), {}, {"size": 4, "coupling": "locked"}


def tied(count: int) -> tuple[list[tuple[int, int]], dict[str, Any], dict[str, Any]]:
    arcs = [(i, (i + 1) % count) for i in range(count)]
    return arcs, {"share": "all"}, {"size": 4, "port": "out", "link": {"delay": 1}}


def delayed(count: int) -> tuple[list[tuple[int, int]], dict[str, Any], dict[str, Any]]:
    arcs = [(i, (i + 1) % count) for i in range(count)]
    return arcs, {}, {"size": 4, "coupling": "delayed", "link": {"delay": 1}}


def rings(count: int) -> tuple[list[tuple[int, int]], dict[str, Any], dict[str, Any]]:
    """Rings of eight, in which every path has filled after as many steps."""
    arcs = [(i, i // 8 * 8 + (i + 1) % 8) for i in range(count)]
    return arcs, {}, {"size": 4, "link": {"delay": 1}}


def star(count: int) -> tuple[list[tuple[int, int]], dict[str, Any], dict[str, Any]]:
    return [(0, i) for i in range(1, count)], {}, {"size": 4}


KINDS = [regular, chain, locked, tied, delayed, rings, star]


def simulate(kind: Callable[[int], Any], count: int) -> Simulation:
    arcs, agent, channel = kind(count)
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for i in range(count):
        objective = {"kind": "classification", "target": "label"}
        network = {"kind": "mlp", "hidden": [4]}
        graph.add_node(f"n{i:03}", observes=["x"], network=network, objective=objective, **agent)
    for one, other in arcs:
        graph.add_edge(f"n{one:03}", f"n{other:03}", **channel)
    return Simulation(Scenario.from_graph(graph, env=ENV, training={"batch": 4}))


def assert_linear(few: Counter[str], many: Counter[str]) -> None:
    grown = {
        name: (few[name], count)
        for name, count in many.items()
        if count > SLACK * TIMES * few[name] + CONSTANT
    }
    assert not grown


@pytest.mark.parametrize("kind", KINDS)
def test_no_function_is_called_more_often_per_agent_where_there_are_more(kind: Callable[[int], Any]) -> None:
    simulate(kind, FEW)  # imports and caches
    few, many = (calls(lambda count=count: simulate(kind, count)) for count in (FEW, TIMES * FEW))
    assert sum(few.values()) > 100 * FEW
    assert_linear(few, many)


def test_evaluation_calls_no_function_more_often_per_agent_where_there_are_more() -> None:
    few, many = (calls(simulate(rings, count).evaluate) for count in (FEW, TIMES * FEW))
    assert sum(few.values()) > 100 * FEW
    assert_linear(few, many)


def test_a_class_is_inspected_once_for_all_agents() -> None:
    simulate(regular, FEW)
    inspected = [
        name
        for name in calls(lambda: simulate(regular, 2 * FEW))
        if "inspect.py" in name and "signature" in name
    ]
    assert not inspected


def test_agents_have_no_tensors_but_parameters_statistics_and_states_of_optimisers() -> None:
    def made() -> int:
        gc.collect()
        return sum(type(each) is Tensor for each in gc.get_objects())

    kept, counts = [], []
    for count in (FEW, TIMES * FEW):
        before = made()
        kept.append(simulate(rings, count))
        counts.append(made() - before)
    parts = [agent.learner for agent in kept[0]._system.agents.values()]
    parts += [model for channel in kept[0]._system.channels.values() for model in channel.models]
    own = sum(len(p.parameters) + len(p.buffers) + len(list(p.optimiser.tensors())) for p in parts) // FEW
    assert counts[1] - counts[0] <= (TIMES - 1) * FEW * (own + 1)  # a channel's zeros are a view
