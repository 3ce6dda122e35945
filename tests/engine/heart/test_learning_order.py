"""The order of learning: turns decide how many graphs there are at once, and move no parameter otherwise (semantics 13a)."""

from __future__ import annotations

import pytest

from antiphon import Simulation
from antiphon.engine.heart.learning_order import LearningOrder
from antiphon.engine.heart.updates import GroupWindows
from antiphon.scenarios import Scenario
from tests.engine.numbers import all_parameters, equal
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of


def two_windows_at_once() -> Scenario:
    """Every window of `a` waits for `b`, which learns from two ticks at every fourth step: two of `a` are learned from at a step."""
    agent = {"observes": ["image"], "network": LINEAR_MAP, "objective": CLASSIFY}
    clocks = {"a": {"unroll": 4}, "b": {"period": 4, "unroll": 2}}
    channel = {"from": "a", "to": "b", "size": 2, "norm": "none", "coupling": "delayed", "link": {"delay": 2}}
    return scenario_of(
        {name: {**agent, "clock": clock} for name, clock in clocks.items()},
        [channel],
        optimiser={"kind": "sgd", "lr": 0.1, "momentum": 0.9},
    )


def test_of_two_windows_of_an_agent_the_older_moves_first_in_any_order_of_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Simulation(two_windows_at_once()) as simulation:
        simulation.run(20)
        usual = all_parameters(simulation)
    turns, most_turns = LearningOrder.turns, 0

    def backwards(order: LearningOrder, windows_to_learn: GroupWindows) -> list[GroupWindows]:
        nonlocal most_turns
        usual_turns = turns(order, windows_to_learn)
        most_turns = max(most_turns, len(usual_turns))
        return usual_turns[::-1]

    monkeypatch.setattr(LearningOrder, "turns", backwards)
    with Simulation(two_windows_at_once()) as simulation:
        simulation.run(20)
        assert most_turns == 2
        assert equal(all_parameters(simulation), usual)
