"""Probes of state channels: the truth of a state that is handed on (inspection/truth.py), and what its gradient is worth."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from antiphon import Simulation
from tests.numerics.recurring import GOAL, LINEAR, STATE, flags, make, played

MIND: dict[str, Any] = {"network": {"kind": "lstm", "size": 3}, "objective": GOAL}
TOLD = {"from": "a", "to": "b", "size": 2, "gradient": LINEAR, "link": {"delay": 1}}


def pair(unroll: int, **ends: Any) -> Simulation:
    """Two recurrent agents, the second of which hears the first."""
    others = {"b": {**MIND, "clock": {"unroll": 3}}}
    return make(played(**ends), LINEAR, unroll=unroll, others=others, channels=[TOLD])


def nudged(simulation: Simulation, steps: int, name: str, row: int, column: int, nudge: float) -> float:
    """The summed losses of a fork's next steps, nothing learned, one component of the next state moved."""
    twin = simulation.fork(stacked=False)  # its ends of channels and windows are read
    now, total = twin.now, 0.0
    for agent in twin.running.system.agents.values():
        agent.learner.trainable = []
    group = twin.running.system.group_by_agent[twin.running.system.channels[name].sender]
    for step in range(now, now + steps):
        twin.running.backend.tick(step, twin.world.step_signals)
        if step == now:  # it is passed on with its graph, or over the link
            received = twin.running.system.channels[name].wire.inbox.messages[now]
            moved = received.value.clone()
            moved[row, column] += nudge
            received.value = group.window.outputs_with_graph[name, now] = moved
        ends = twin.world.advance()
        for tick in (t for u in twin.running.system.groups for t in u.window.ticks() if t.step == step):
            found = twin.running.backend.objective_evaluator.tick_loss(tick)
            total += 0.0 if found is None else found[0].sum().item()
        twin.running.backend.learn(step, ends)
    return total


@pytest.mark.long
@pytest.mark.parametrize(
    ("unroll", "ends"), [(1, {"terminated": flags(0, 3)}), (2, {"endless": True})], ids=["ends", "endless"]
)
def test_the_truth_of_a_state_is_that_of_finite_differences(unroll: int, ends: dict[str, Any]) -> None:
    with pair(unroll, **ends) as simulation:
        simulation.run(8)  # an episode ends with the step after the next one
        probes = simulation.probe(horizon=3)
        assert set(probes) == {STATE, "b->b:state", "a->b"}
        for name in (STATE, "b->b:state"):
            true = probes[name].true
            for row, column in ((0, 1), (2, 2), (3, 0)):
                loss = functools.partial(nudged, simulation, 4, name, row, column)
                slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
                assert float(true[row, column]) == pytest.approx(slope, abs=1e-8, rel=1e-5), (name, row)
            assert float(true.norm()) > 1e-3
