"""Rewards and ends of agents that die in a world where others live on (rules 38, 40)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv

from antiphon import Scenario, Simulation
from antiphon.agents.advantages import Trajectory
from antiphon.agents.policy_gradients import PolicyGradient
from tests.reference.backend import Chosen

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
