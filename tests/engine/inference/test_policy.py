"""A trained system as a policy: what it does in a world's own loop is what it does in a rollout of the engine."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from antiphon import Simulation, envs
from antiphon.nets.random import LARGEST_SEED, sampled_seeds, seed_for
from antiphon.scenarios import Scenario
from tests.envs.adaptors import parallel_worlds

WORLDS = {
    "gymnasium": "{id: gymnasium/CartPole-v1, vectorization_mode: sync, max_episode_steps: 9}",
    "ours": "{id: antiphon/CartPole-v0, limit: 60}",
}


def pole(world: str) -> Scenario:
    """An eye that remembers, and a hand that remembers too and acts on what came from the eye two steps ago."""
    return Scenario.from_yaml(f"""\
scenario: pole
env: {WORLDS[world]}
agents:
  eye: {{observes: [observation], network: {{kind: lstm, size: 5}}}}
  hand:
    network: {{kind: gru, size: 4}}
    objective: {{kind: a2c, normalise: none}}
    acts: true
    clock: {{unroll: 4}}
channels:
  - {{from: eye, to: hand, size: 3, gradient: linear, link: {{delay: 2}}}}
training: {{batch: 3, steps: 20, optimiser: {{lr: 0.01}}}}
""")


def test_in_our_worlds_it_does_what_an_evaluation_does() -> None:
    """The first whole episodes of every environment, their states and messages beginning anew with each."""
    with Simulation(pole("ours")) as simulation:
        simulation.run()
        found, policy = simulation.evaluate(episodes=3), simulation.policy()
        (seed,) = sampled_seeds(seed_for(simulation.seed, "evaluation", "test", "0"), 1, LARGEST_SEED - 2)
    env = envs.make(simulation.scenario.env, batch=3)
    lengths: list[list[float]] = [[], [], []]
    actions, steps = set(), torch.zeros(3)
    seen, _ = env.reset(seed=seed)
    while min(map(len, lengths)) < 3:
        action = policy.act(seen)
        actions.add(tuple(action.tolist()))
        seen, _, terminated, truncated, _ = env.step(torch.from_numpy(action))
        ended, steps = terminated | truncated, steps + 1
        policy.reset(ended)
        for row in ended.nonzero().flatten().tolist():
            lengths[row].append(steps[row].item())
            steps[row] = 0
    assert len(actions) > 1  # it is a policy, and no constant
    mean = sum(sum(own[:3]) for own in lengths) / 9
    assert (found.episodes.length, found.return_, found.agents["hand"]["return"]) == pytest.approx(
        (mean,) * 3
    )
    assert (found.episodes.count, found.examples, found.readout) == (9, 9, ("hand",))
    assert str(found).startswith(f"9 whole episodes of {mean:.1f} steps, greedy")


def test_samples_are_of_the_seed_the_step_and_the_environment() -> None:
    seen = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)

    def played(policy: Any, observation: NDArray[Any]) -> list[list[int]]:
        policy.reset()
        return [np.atleast_1d(policy.act(observation)).tolist() for _ in range(30)]

    with Simulation(pole("gymnasium"), seed=4) as simulation:
        policy = simulation.policy(greedy=False)
        sampled = played(policy, seen)
        assert sampled == played(policy, seen)
        assert sampled == played(simulation.policy(greedy=False, seed=4), seen)
        assert sampled != played(simulation.policy(greedy=False, seed=3), seen)
        assert sampled != played(simulation.policy(), seen)
        assert [row[0] for row in sampled] == [
            row[0] for row in played(simulation.policy(greedy=False), seen[:1])
        ]
        assert len({tuple(row) for row in sampled}) > 4


MINES = """\
scenario: mines
env: {id: pettingzoo/mines_of_a_test, mine: 2, limit: 6}
agents:
  low: {observes: [low.observation], acts: low, clock: {unroll: 3}, objective: {kind: a2c}}
  high: {observes: [high.place], acts: high, clock: {unroll: 3}, objective: {kind: reinforce}}
channels: [{from: high, to: low, size: 2, gradient: linear}]
training: {batch: 2, steps: 12}
"""


def test_in_a_parallel_world_it_acts_for_the_agents_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mines_of_a_test", parallel_worlds)
    with Simulation(Scenario.from_yaml(MINES)) as simulation:
        simulation.run()
        policy = simulation.policy(greedy=False)
    world = parallel_worlds.Mines(mine=2, limit=6)
    alive = []
    for seed in range(6):
        policy.reset()
        seen, _ = world.reset(seed=seed)
        while world.agents:
            action = policy.act({agent: seen[agent] for agent in world.agents})
            alive.append(len(action))
            assert action.keys() == set(world.agents)
            seen = world.step(action)[0]
    assert set(alive) == {1, 2}
