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
from tests.contracts.builders import Document
from tests.numerics.loops import Hand, Loop, distance, squared
from tests.numerics.recurring import BATCH, GOAL, LENGTHS, STEPS, make, played
from tests.numerics.whole import DOUBLE, drawn
from tests.reference.backend import Chosen, reference

KINDS = ("rnn", "leaky", "gru", "lstm")
LR = 0.01


def simulation_of(
    env: Any, kind: str, coupling: str | None, unroll: int | str, goal: Document = GOAL, **agent: Any
) -> Simulation:
    """One recurrent agent; without a coupling its state is what the agent has by itself."""
    network = {"kind": kind, "size": 5, "hidden": [7], "norm": "layer"}
    return make(env, coupling, unroll=unroll, network=network, objective=goal, **agent)


def adam(hand: Hand) -> torch.optim.Adam:
    return torch.optim.Adam(hand.numbers.values(), lr=LR, fused=True)


def follow(optimiser: torch.optim.Adam, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def nothing(hand: Hand) -> tuple[Tensor, Tensor]:
    """The state and the loss of an episode that begins."""
    return torch.zeros(BATCH, hand.state_size, dtype=DOUBLE), torch.zeros((), dtype=DOUBLE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_locked_state_is_backpropagation_through_the_episode(kind: str) -> None:
    """Also where episodes differ in length."""
    source = played(lengths=LENGTHS)
    with simulation_of(source, kind, "locked", "episode") as simulation:
        hand = Hand(simulation, "a", kind)
        optimiser = adam(hand)
        for length in LENGTHS:
            state, loss = nothing(hand)
            for step in range(simulation.now, simulation.now + length):
                seen = source.at(step)
                hidden, state = hand.tick(seen["x"], state)
                loss = loss + squared(hand.head("objective", hidden), seen).sum() / BATCH
                info = simulation.step()
            follow(optimiser, loss)
            assert float(info["losses"]["a"]) == pytest.approx(loss.item(), abs=1e-10)
        assert simulation.agents["a"].updates == len(LENGTHS)
        assert distance(simulation, "a", hand) < 1e-10


def test_an_example_that_is_an_episode_is_learned_as_one() -> None:
    """A stream of held examples: only the last step's loss counts, and its gradient reaches the first."""
    label = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(1))
    source = from_tensors(x=drawn(0, 60, 4), y=label, hold=5, episode="example")
    goal = {"kind": "classification", "target": "y"}
    with simulation_of(source, "gru", "locked", "episode", goal) as simulation:
        hand = Hand(simulation, "a", "gru")
        optimiser = adam(hand)
        for _ in range(6):
            state, _ = nothing(hand)
            for _ in range(5):
                seen = simulation.signals
                hidden, state = hand.tick(seen["x"], state)
                simulation.step()
            follow(optimiser, F.cross_entropy(hand.head("objective", hidden), seen["y"]))
        assert distance(simulation, "a", hand) < 1e-10


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("kind", "unroll", "coupling"),
    [*((kind, 4, "detached") for kind in KINDS), ("gru", 1, "detached"), ("lstm", 4, None)],
)
def test_a_detached_state_is_truncated_backpropagation(kind: str, unroll: int, coupling: str | None) -> None:
    source = played(endless=True)
    with simulation_of(source, kind, coupling, unroll) as simulation:
        hand = Hand(simulation, "a", kind)
        loop = Loop(hand, squared, unroll, LR)
        for step in range(STEPS):
            simulation.step()
            loop.step(source.at(step), *source.ends(step))
        assert distance(simulation, "a", hand) < 1e-10


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_locked_agents_of_different_windows_learn_in_the_longest(backend: Chosen) -> None:
    """One that is locked to an agent whose window is the episode trains as one whose own is (rule 14)."""
    found = []
    for unroll in (3, "episode"):
        cell = {"kind": "gru", "size": 4}
        agents = {
            "ear": {"observes": ["symbol"], "network": cell, "clock": {"unroll": unroll}},
            "mouth": {
                "network": cell,
                "clock": {"unroll": "episode"},
                "objective": {"kind": "coding", "target": "target"},
            },
        }
        document = {
            "scenario": "mixed",
            "env": {"id": "antiphon/Copy-v0"},
            "agents": agents,
            "channels": [{"from": "ear", "to": "mouth", "size": 3, "coupling": "locked"}],
            "training": {"batch": 4},
        }
        with Simulation(Scenario.model_validate(document), seed=0, backend=backend) as simulation:
            simulation.run(40)
            found.append(
                [one.clone() for name in agents for one in simulation.agents[name].parameters.values()]
            )
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
