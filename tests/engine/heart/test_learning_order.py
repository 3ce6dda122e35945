"""The order of learning: of windows of one agent that end at a step, the oldest is first (semantics 13a)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from antiphon import Simulation
from antiphon.engine.heart import step
from antiphon.engine.heart.updates import GroupWindows
from antiphon.scenarios import Scenario
from benchmarks.split import Kept
from tests.contracts.builders import Document
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of

WIDE: Document = {"kind": "mlp", "hidden": [64, 64], "norm": "none"}


def windows_at_once(count: int, network: Document = LINEAR_MAP) -> Scenario:
    """Every window of `a` waits for `b`, which ticks at every fourth step and learns from `count` ticks: so many of `a` are learned from."""
    agent = {"observes": ["image"], "network": LINEAR_MAP, "objective": CLASSIFY}
    agents = {
        "a": {**agent, "network": network, "clock": {"unroll": 4}},
        "b": {**agent, "clock": {"period": 4, "unroll": count}},
    }
    channel = {"from": "a", "to": "b", "size": 2, "norm": "none", "coupling": "delayed", "link": {"delay": 2}}
    channel |= {"horizon": 2 * count}
    return scenario_of(agents, [channel], optimiser={"kind": "sgd", "lr": 0.1, "momentum": 0.9})


def test_of_windows_of_an_agent_the_older_is_learned_from_first_whatever_else_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two groups wait, one of them for half as long a window."""
    late: Document = {"size": 2, "norm": "none", "coupling": "delayed", "link": {"delay": 2}, "horizon": 8}
    clocks = {"a": {"unroll": 4}, "b": {"period": 4, "unroll": 2}, "c": {"unroll": 2}}
    agent = {"observes": ["image"], "network": LINEAR_MAP, "objective": CLASSIFY}
    scenario = scenario_of(
        {name: {**agent, "clock": clock} for name, clock in clocks.items()},
        [{"from": "a", "to": "b", **late}, {"from": "c", "to": "b", **late}],
    )
    turns, steps = step.turns_of, list[list[list[tuple[str, int]]]]()

    def watched(windows_to_learn: GroupWindows) -> list[GroupWindows]:
        usual_turns = turns(windows_to_learn)
        steps.append(
            [[(*group.agent_names, window.number) for group, window in turn] for turn in usual_turns]
        )
        return usual_turns

    monkeypatch.setattr(step, "turns_of", watched)
    with Simulation(scenario) as simulation:
        simulation.run(28)
    for taken in steps:
        for name in simulation.agents:
            turn_numbers = [[number for agent, number in turn if agent == name] for turn in taken]
            assert all(len(numbers) <= 1 for numbers in turn_numbers)
            learned = [number for numbers in turn_numbers for number in numbers]
            assert learned == sorted(learned)
    assert any([name for turn in taken for name, _ in turn].count("a") == 2 for taken in steps)


def kept_at_once(count: int) -> int:
    """Bytes that a step keeps for backward at most, also one at which so many windows of an agent are learned from."""
    most_kept, updates = 0, [0]
    with Simulation(windows_at_once(count, WIDE)) as simulation:
        own = [p for agent in simulation.agents.values() for p in agent.parameters.values()]
        for _ in range(8 * count + 8):
            most_kept = max(most_kept, Kept(own).during(simulation.step))
            updates.append(simulation.agents["a"].updates)
    assert max(after - before for before, after in pairwise(updates)) == count
    return most_kept


def test_of_windows_that_have_waited_one_graph_exists_at_a_time() -> None:
    assert kept_at_once(6) == kept_at_once(2)
