"""Played by Gymnasium's own loop, a policy earns what `evaluate` reports of it."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from antiphon import Simulation
from antiphon.engine.inference.evaluation import rollout_seed
from antiphon.engine.inference.policy import Policy
from antiphon.scenarios import Scenario

BATCH, EPISODES = 3, 4
POLE = """\
scenario: pole
env: {gymnasium: CartPole-v1, max_episode_steps: 60, AUTORESET}
agents:
  eye: {observes: [observation], network: {kind: gru, size: 6}}
  hand: {network: {kind: mlp, hidden: [16]}, objective: {kind: ppo, minibatches: 3}, acts: true, clock: {unroll: 8}}
channels:
  - {from: eye, to: hand, size: 4, gradient: linear, link: {delay: 1}}
training: {batch: 3, steps: 64, optimiser: {lr: 0.01}}
"""


def played(policy: Policy, env: VectorEnv[Any, Any, Any], seed: int) -> float:
    """The mean return of the first whole episodes of every environment, as somebody without antiphon counts them."""
    returns: list[list[float]] = [[] for _ in range(BATCH)]
    sums = np.zeros(BATCH)
    seen, _ = env.reset(seed=seed)
    while min(map(len, returns)) < EPISODES:
        seen, reward, terminated, truncated, _ = env.step(policy.act(seen))
        sums += reward
        for row in np.flatnonzero(terminated | truncated):
            returns[row].append(sums[row])
            sums[row] = 0
        policy.reset(terminated | truncated)
    return float(np.mean([each[:EPISODES] for each in returns]))


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_its_return_is_that_of_an_evaluation(mode: AutoresetMode, sampled: bool) -> None:
    text = POLE.replace("AUTORESET", f"autoreset: {mode.name.lower()}")
    with Simulation(Scenario.from_yaml(text), seed=2) as simulation:
        simulation.run()
        expected = simulation.evaluate(episodes=EPISODES, sampled=sampled).return_
        seed = rollout_seed(2, "test", 0)
        policy = simulation.policy(greedy=not sampled, seed=seed)
    env = gymnasium.make_vec(
        "CartPole-v1",
        BATCH,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        max_episode_steps=60,
    )
    assert played(policy, env, seed) == pytest.approx(expected, abs=1e-6)


def test_so_it_is_where_a_step_only_resets() -> None:
    """Episodes begin for the policy after the observation with which the one before ended."""
    text = POLE.replace("AUTORESET", "vectorization_mode: vector_entry_point")
    with Simulation(Scenario.from_yaml(text), seed=2) as simulation:
        simulation.run()
        expected = simulation.evaluate(episodes=EPISODES).return_
        seed = rollout_seed(2, "test", 0)
        policy = simulation.policy()
    env = gymnasium.make_vec("CartPole-v1", BATCH, max_episode_steps=60)
    returns: list[list[float]] = [[] for _ in range(BATCH)]
    sums, before = np.zeros(BATCH), np.zeros(BATCH, bool)
    seen, _ = env.reset(seed=seed)
    while min(map(len, returns)) < EPISODES:
        seen, reward, terminated, truncated, _ = env.step(policy.act(seen))
        sums += reward
        for row in np.flatnonzero(terminated | truncated):
            returns[row].append(sums[row])
            sums[row] = 0
        policy.reset(before)
        before = terminated | truncated
    assert np.mean([each[:EPISODES] for each in returns]) == pytest.approx(expected, abs=1e-6)
