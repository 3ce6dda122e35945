"""Rewards and ends of agents that die in a world where others live on (rules 38, 40)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv

from antiphon import Scenario, Simulation
from antiphon.agents.advantages import Trajectory
from antiphon.agents.policy_gradients import PolicyGradient
from tests.reference.backend import Chosen, reference

STEPS, LEAVES = 8, 3


class Pair(ParallelEnv[str, Any, Any]):
    """Agents a and b, of which the second leaves after `LEAVES` steps; the world ends after `STEPS`. All see the step."""

    metadata = {"name": "pair"}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012

    def __init__(self, leaves: str = "terminated", ends: str = "terminated") -> None:
        self.kinds = {LEAVES: leaves, STEPS: ends}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(-99, 99, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(2)

    def _seen(self, agents: list[str]) -> dict[str, Any]:
        return {agent: np.array([self.steps + 1], np.float32) for agent in agents}

    def reset(self, seed: Any = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.steps, self.agents = 0, ["a", "b"]
        return self._seen(self.agents), {}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.steps += 1
        acted, kind = self.agents, self.kinds.get(self.steps, "")
        self.agents = [agent for agent in acted if not kind or (agent == "a" and self.steps < STEPS)]
        over = [agent for agent in acted if agent not in self.agents]
        ends = (
            {agent: agent in over and kind in (own, "both") for agent in acted}
            for own in ("terminated", "truncated")
        )
        rewards = {agent: float(self.steps) if agent == "a" else 0.5 for agent in acted}
        return self._seen(acted), rewards, *ends, {agent: {} for agent in acted}

    def close(self) -> None:
        pass


@pytest.fixture
def trajectories(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Trajectory, Any]]:
    """The trajectories of all windows, and the values of their ticks."""
    found: list[tuple[Trajectory, Any]] = []
    advantages = PolicyGradient.advantages

    def spy(self: PolicyGradient, trajectory: Trajectory, values: Any, **settings: Any) -> Any:
        found.append((trajectory, values))
        return advantages(self, trajectory, values, **settings)

    monkeypatch.setattr(PolicyGradient, "advantages", spy)
    return found


def playing(
    monkeypatch: pytest.MonkeyPatch,
    acts: str,
    reward: Any,
    backend: Chosen = "cohort",
    ticks: int = STEPS + 1,
    **world: Any,
) -> Simulation:
    module = type(sys)("pair_of_a_test")
    module.parallel_env = Pair  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pair_of_a_test", module)
    agent = {"observes": [f"{acts}.observation"], "acts": acts, "clock": {"unroll": ticks}}
    document = {
        "scenario": "pair",
        "env": {"id": "pettingzoo/pair_of_a_test", **world},
        "agents": {"p": {**agent, "objective": {"kind": "a2c", "reward": reward}}},
        "training": {"batch": 2},
    }
    return Simulation(Scenario.model_validate(document), backend=backend)


OF_A = {
    "both": ({"reward.a": 1, "reward.b": 2}, [2.0, 3.0, 4.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
    "the other's": ({"reward.b": 2}, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    "the mean": ({"reward": 1}, [0.75, 1.25, 1.75, 4.0, 5.0, 6.0, 7.0, 8.0]),
    "own": ({"reward.a": 1, "reward": 2}, [2.5, 4.5, 6.5, 12.0, 15.0, 18.0, 21.0, 24.0]),
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("rewards", OF_A)
def test_who_lives_on_learns_from_all_ticks_whoever_else_has_died(
    rewards: str, backend: Chosen, trajectories: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is absent adds nothing."""
    reward, expected = OF_A[rewards]
    with playing(monkeypatch, "a", reward, backend) as simulation:
        simulation.run(STEPS + 1)
    ((found, _),) = trajectories
    assert found.unseen[:, 0].tolist() == [False] * STEPS + [True]
    assert found.terminated[:, 0].tolist() == [False] * 7 + [True, False]
    torch.testing.assert_close(found.rewards[:STEPS, 0], torch.tensor(expected))


@pytest.mark.cases(2)
@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("reward", [{"reward": 1}, {"reward.b": 1}, {"reward.a": 1, "reward.b": 1}], ids=str)
@pytest.mark.parametrize("leaves", ["terminated", "truncated", "both"])
def test_who_has_left_is_at_the_end_of_its_own_episode(
    leaves: str, reward: Any, backend: Chosen, trajectories: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it learns from. Its final observation is that of the step after; where it is truncated, its value counts."""
    with playing(monkeypatch, "b", reward, backend, leaves=leaves) as simulation:
        simulation.run(STEPS + 1)
    ((found, _),) = trajectories
    truncated = leaves == "truncated"
    assert found.unseen[:, 0].tolist() == [False] * LEAVES + [True] * (STEPS + 1 - LEAVES)
    assert found.terminated[:, 0].tolist() == [not truncated and t == 2 for t in range(STEPS + 1)]
    assert found.bootstrapped[:, 0].tolist() == [truncated and t == 2 for t in range(STEPS + 1)]


@pytest.mark.parametrize("ends", ["terminated", "truncated", "both"])
def test_the_last_agent_is_terminated_where_it_is_truncated_too(
    ends: str, trajectories: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with it the episode of the environment."""
    with playing(monkeypatch, "a", "reward", ends=ends) as simulation:
        step, over = simulation.world.env.step, list[tuple[bool, bool]]()

        def noted(actions: Any = None) -> Any:
            found = step(actions)
            over.append((bool(found[2].all()), bool(found[3].all())))
            return found

        monkeypatch.setattr(simulation.world.env, "step", noted)
        simulation.run(STEPS + 1)
    ((found, _),) = trajectories
    assert bool(found.terminated[STEPS - 1].all()) is (ends != "truncated")
    assert bool(found.bootstrapped[STEPS - 1].all()) is (ends == "truncated")
    assert over[STEPS - 1] == (ends != "truncated", ends == "truncated")
