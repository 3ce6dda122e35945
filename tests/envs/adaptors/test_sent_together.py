"""Vector environments of the members of a population: all get their actions before one is awaited, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

import antiphon
from tests.kit import seams

LOG: list[tuple[str, int]] = []


class Waiting(VectorEnv[Any, Any, Any]):
    """Two environments that take a step between `step_async` and `step_wait`, and each copy logs its calls."""

    copies = 0

    def __init__(self) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs, self.number = 2, Waiting.copies
        Waiting.copies += 1
        self.single_observation_space = spaces.Box(-9.0, 9.0, (1,), np.float32)
        self.single_action_space = spaces.Discrete(3)
        self.observation_space = batch_space(self.single_observation_space, 2)
        self.action_space = batch_space(self.single_action_space, 2)

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        return np.zeros((2, 1), np.float32), {}

    def step(self, actions: Any) -> Any:
        raise AssertionError("step_async and step_wait take its place")

    def step_async(self, actions: Any) -> None:
        LOG.append(("send", self.number))
        self.actions = actions

    def step_wait(self) -> Any:
        LOG.append(("wait", self.number))
        ends = np.zeros(2, bool)
        return self.actions[:, None].astype(np.float32), self.actions.astype(np.float32), ends, ends, {}


def scenario(env: Any) -> antiphon.Scenario:
    goal = {"kind": "ppo", "epochs": 1}
    player = {"observes": ["observation"], "acts": True, "clock": {"unroll": 2}, "objective": goal}
    return antiphon.Scenario(scenario="it", env=env, agents={"player": player}, training={"batch": 2})


@pytest.fixture
def log() -> Iterator[list[tuple[str, int]]]:
    LOG.clear()
    Waiting.copies = 0
    yield LOG
    LOG.clear()


def test_all_actions_are_sent_before_one_is_awaited(log: list[tuple[str, int]]) -> None:
    population = antiphon.Population(scenario(Waiting), seeds=[0, 1, 2])
    assert population.sequential_reason is None
    population.run(2)
    population.close()
    assert log == [(call, n) for _ in range(2) for call in ("send", "wait") for n in range(3)]
    with antiphon.Simulation(scenario(Waiting)) as alone:
        alone.run(1)
    assert log[-2:] == [("send", 3), ("wait", 3)]


@pytest.mark.long
def test_members_in_processes_are_bit_identical_to_members_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = {"id": "gymnasium/CartPole-v1", "vectorization_mode": "async"}
    found: list[dict[str, torch.Tensor]] = []
    for _ in range(2):
        population = antiphon.Population(scenario(env), seeds=[0, 1], dtype=torch.float64)
        assert population.sequential_reason is None
        population.run(30)
        found.append(
            {
                f"{number} {key}": value.clone()
                for number, one in enumerate(population.simulations)
                for key, value in one.agents["player"].parameters.items()
            }
        )
        population.close()
        monkeypatch.setattr(
            seams.STEP_EACH,
            lambda runners, actions, step: [
                runner.step_env(of_env, step) for runner, of_env in zip(runners, actions, strict=True)
            ],
        )
    torch.testing.assert_close(*found, rtol=0, atol=0)
