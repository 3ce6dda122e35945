"""Played by Gymnasium's own loop, a policy earns what `evaluate` reports of it."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from antiphon import Simulation
from antiphon.nets.random import LARGEST_SEED, sampled_seeds, seed_for
from antiphon.scenarios import Scenario
from tests.kit.worlds import ROWS

BATCH, EPISODES = 3, 4
POLE = """\
scenario: pole
env: {ENV, max_episode_steps: 60}
agents:
  eye: {observes: [observation], network: {kind: gru, size: 6}}
  hand: {network: {kind: mlp, hidden: [16]}, objective: {kind: ppo, minibatches: 3}, acts: true, clock: {unroll: 8}}
channels:
  - {from: eye, to: hand, size: 4, gradient: linear, link: {delay: 1}}
training: {batch: 3, steps: 64, optimiser: {lr: 0.01}}
"""


def played(policy: Any, env: VectorEnv[Any, Any, Any], seed: Any, *, late: bool) -> float:
    """The mean return of the first whole episodes of every environment, as somebody without antiphon counts them.

    `late`: an episode begins for the policy after the observation with which the one before ended.
    """
    returns: list[list[float]] = [[] for _ in range(BATCH)]
    sums, before = np.zeros(BATCH), np.zeros(BATCH, bool)
    seen, _ = env.reset(seed=seed)
    while min(map(len, returns)) < EPISODES:
        seen, reward, terminated, truncated, _ = env.step(policy.act(seen))
        ended = terminated | truncated
        sums += reward
        for row in np.flatnonzero(ended):
            returns[row].append(sums[row])
            sums[row] = 0
        policy.reset(before if late else ended)
        before = ended
    return float(np.mean([each[:EPISODES] for each in returns]))


@pytest.mark.long
@pytest.mark.parametrize(
    ("env", "sampled"),
    [
        (f"id: {ROWS}, name: CartPole-v1", True),
        (f"id: {ROWS}, name: CartPole-v1, autoreset: disabled", False),
        ("id: gymnasium/CartPole-v1", False),
    ],
)
def test_its_return_is_that_of_an_evaluation(env: str, sampled: bool) -> None:
    late = "gymnasium" in env  # a step of it only resets
    with Simulation(Scenario.from_yaml(POLE.replace("ENV", env)), seed=2) as simulation:
        simulation.run()
        expected = simulation.evaluate(episodes=EPISODES, sampled=sampled).return_
        seed = seed_for(2, "evaluation", "test", "0")
        policy = simulation.policy(greedy=not sampled, seed=seed)
    same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
    how = {} if late else {"vectorization_mode": "sync", "vector_kwargs": same_step, "max_episode_steps": 60}
    env = gymnasium.make_vec("CartPole-v1", BATCH, **how)
    (world,) = sampled_seeds(seed, 1, LARGEST_SEED - BATCH + 1)
    of_rows = (
        sampled_seeds(world, 2, LARGEST_SEED - BATCH + 1)[1] if late else sampled_seeds(world, 1 + BATCH)[1:]
    )
    assert played(policy, env, of_rows, late=late) == pytest.approx(expected, abs=1e-6)
