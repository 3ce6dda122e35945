"""State that is locked or detached, against backpropagation through time by hand over torch's own cells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon import Simulation
from antiphon.envs import from_tensors
from antiphon.scenarios import Scenario
from tests.numerics.loops import Hand, Loop, Signals, distance
from tests.numerics.played import Played
from tests.numerics.whole import DOUBLE, drawn

KINDS = ("rnn", "leaky", "gru", "lstm")
BATCH, LR = 6, 0.01


def scenario(
    env: Any, kind: str, coupling: str | None, goal: dict[str, Any], unroll: int | str, **agent: Any
) -> Scenario:
    """One recurrent agent; without a coupling its state is what the agent has by itself."""
    network = {"kind": kind, "size": 5, "encoder": [7], "norm": "layer"}
    clock = {"unroll": unroll}
    a = {"observes": ["x"], "network": network, "clock": clock, "objective": goal, **agent}
    state = {"from": "a", "to": "a", "carries": "state", "coupling": coupling}
    return Scenario.model_validate(
        {
            "scenario": "time",
            "env": env,
            "agents": {"a": a},
            "channels": [] if coupling is None else [state],
            "training": {"batch": BATCH, "optimiser": {"kind": "adam", "lr": LR}},
        }
    )


def squared(output: Tensor, seen: Signals) -> Tensor:
    return (output - seen["y"]).square().mean(1)


def endless(steps: int) -> Played:
    return Played({"x": drawn(0, steps, BATCH, 4), "y": drawn(1, steps, BATCH, 3)}, ("y",), endless=True)


def together(simulation: Simulation, loop: Loop, source: Played, steps: int) -> None:
    """Let both learn from the same steps."""
    for _ in range(steps):
        step = simulation.now
        seen = source.at(step)
        simulation.step()
        loop.step(seen, *source.ends(step))


@pytest.mark.parametrize("kind", KINDS)
def test_a_locked_state_is_backpropagation_through_the_episode(kind: str) -> None:
    """Also where episodes differ in length."""
    lengths = (5, 3, 6, 3)
    y = drawn(1, sum(lengths), BATCH, 3)
    source = Played({"x": drawn(0, sum(lengths), BATCH, 4), "y": y}, ("y",), lengths=lengths)
    goal = {"kind": "regression", "target": "y"}
    with Simulation(scenario(source, kind, "locked", goal, "episode"), dtype=DOUBLE) as simulation:
        hand = Hand(simulation, "a", kind)
        optimiser = torch.optim.Adam(hand.numbers.values(), lr=LR, fused=True)
        for length in lengths * 3:
            first = simulation.now
            state = torch.zeros(BATCH, hand.state_size, dtype=DOUBLE)
            loss = torch.zeros((), dtype=DOUBLE)
            for step in range(first, first + length):
                seen = source.at(step)
                hidden, state = hand.tick(seen["x"], state)
                loss = loss + squared(hand.head("objective", hidden), seen).sum() / BATCH
                info = simulation.step()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            assert float(info["losses"]["a"]) == pytest.approx(loss.item(), abs=1e-10)
        assert simulation.agents["a"].updates == 12
        assert distance(simulation, "a", hand) < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_that_is_an_episode_is_learned_as_one(kind: str) -> None:
    """A stream of held examples: only the last step's loss counts, and its gradient reaches the first."""
    x, label = drawn(0, 60, 4), torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(1))
    source = from_tensors(x=x, y=label, hold=5, episode="example")
    goal = {"kind": "classification", "target": "y"}
    with Simulation(scenario(source, kind, "locked", goal, "episode"), dtype=DOUBLE) as simulation:
        hand = Hand(simulation, "a", kind)
        optimiser = torch.optim.Adam(hand.numbers.values(), lr=LR, fused=True)
        for _ in range(12):
            state = torch.zeros(BATCH, hand.state_size, dtype=DOUBLE)
            for _ in range(5):
                seen = simulation.signals
                hidden, state = hand.tick(seen["x"], state)
                simulation.step()
            optimiser.zero_grad()
            F.cross_entropy(hand.head("objective", hidden), seen["y"]).backward()
            optimiser.step()
        assert distance(simulation, "a", hand) < 1e-10


def test_the_copy_task_is_learned_as_by_hand() -> None:
    env = {"id": "antiphon/Copy-v0", "length": 3, "threshold": 0, "bits": 4}
    goal = {"kind": "coding", "target": "target"}
    document = scenario(env, "lstm", "locked", goal, "episode", observes=["symbol"], acts=True)
    with Simulation(document, dtype=DOUBLE) as simulation:
        hand = Hand(simulation, "a", "lstm")
        optimiser = torch.optim.Adam(hand.numbers.values(), lr=LR, fused=True)
        for _ in range(5):
            state = torch.zeros(BATCH, hand.state_size, dtype=DOUBLE)
            loss = torch.zeros((), dtype=DOUBLE)
            ended: Any = False
            while ended is False:
                seen = dict(simulation.signals)
                hidden, state = hand.tick(seen["symbol"], state)
                output = hand.head("objective", hidden)
                cost = F.binary_cross_entropy_with_logits(output, seen["target"], reduction="none").sum(1)
                loss = loss + torch.where(seen["_target"], cost, 0.0).sum() / BATCH
                ended = simulation.step()["ended"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert simulation.now == 5 * (2 * 3 + 3 - 1 + 1)
        assert distance(simulation, "a", hand) < 1e-10


@pytest.mark.parametrize(
    ("kind", "unroll", "coupling"),
    [*((kind, 4, "detached") for kind in KINDS), ("gru", 1, "detached"), ("lstm", 4, None)],
)
def test_a_detached_state_is_truncated_backpropagation(kind: str, unroll: int, coupling: str | None) -> None:
    source = endless(24)
    goal = {"kind": "regression", "target": "y"}
    with Simulation(scenario(source, kind, coupling, goal, unroll), dtype=DOUBLE) as simulation:
        hand = Hand(simulation, "a", kind)
        together(simulation, Loop(hand, squared, unroll, LR), source, 40)
        assert distance(simulation, "a", hand) < 1e-10


def test_where_the_cut_is_makes_a_difference() -> None:
    source = endless(24)
    goal = {"kind": "regression", "target": "y"}
    with Simulation(scenario(source, "lstm", "detached", goal, 4), dtype=DOUBLE) as simulation:
        hand = Hand(simulation, "a", "lstm")
        together(simulation, Loop(hand, squared, 2, LR), source, 40)
        assert distance(simulation, "a", hand) > 1e-3
