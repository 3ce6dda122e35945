"""The environment as a simulation sees it: the signals of each step, and what is known after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from antiphon import Simulation
from antiphon.engine.core.environment import EnvironmentRunner
from antiphon.envs import registry
from antiphon.errors import RunError
from antiphon.scenarios import Scenario
from tests.engine.scenes import scenario_of


def digits(names: set[str], **options: Any) -> EnvironmentRunner:
    env = registry.make({"id": "antiphon/Digits-v0", **options}, batch=3)
    return EnvironmentRunner(env, names, seed=4)


def test_signals_are_those_that_were_asked_for_and_a_reset_with_the_same_seed_shows_the_same() -> None:
    found = digits({"image", "label"})
    first = found.step_signals
    assert set(first.signals) == {"image", "label"}
    found.advance()
    assert (first.step, found.step_signals.step) == (0, 1)
    for seed, same in ((4, True), (5, False)):
        found.reset(seed)
        assert found.step_signals.step == 0
        assert torch.equal(found.step_signals.signals["image"], first.signals["image"]) is same


@pytest.mark.parametrize("episode", ["stream", "example"])
def test_a_held_example_is_shown_again_and_may_be_an_episode(episode: str) -> None:
    found = digits({"image", "reward", "terminated", "truncated"}, hold=3, episode=episode)
    shown = []
    for step in range(6):
        now = found.step_signals
        assert set(now.signals) == {"image"}
        ended = found.advance().ended
        assert ended is (episode == "example" and step % 3 == 2)
        assert torch.equal(now.signals["terminated"], torch.full((3,), float(ended)))
        assert not now.signals["truncated"].any()
        assert not now.signals["reward"].any()
        shown.append(now.signals["image"])
    assert torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[2], shown[3])


class Counters(VectorEnv[Any, Any, Any]):
    """Lanes that count up and start again after 2, 3, 4, … steps; the reward is the count."""

    def __init__(self, count: int) -> None:
        self.num_envs = count
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = Box(0.0, 9.0, (1,), np.float32)
        self.single_action_space = Discrete(1)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.at = np.zeros((self.num_envs, 1), np.float32)
        return self.at.copy(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.at = self.at + 1
        reward = self.at[:, 0].copy()
        ended = reward == np.arange(self.num_envs) + 2
        info = {"final_obs": list(self.at.copy()), "_final_obs": ended} if ended.any() else {}
        self.at[ended] = 0
        return self.at.copy(), reward, ended, np.zeros_like(ended), info


def test_what_is_known_after_the_step_completes_the_signals_of_that_step() -> None:
    found = EnvironmentRunner(registry.make(Counters(3), batch=3), {"observation", "reward"}, seed=0)
    first = found.step_signals
    assert set(first.signals) == {"observation"}
    assert found.advance().ended is False
    assert first.signals["reward"].tolist() == [1.0, 1.0, 1.0]
    ended = found.advance().ended
    assert isinstance(ended, torch.Tensor)
    assert ended.tolist() == [True, False, False]
    assert found.step_signals.signals["observation"].flatten().tolist() == [0.0, 2.0, 2.0]
    assert "reward" not in found.step_signals.signals


def counting(env: Counters) -> Scenario:
    """An agent that sees the count and is to name the reward."""
    network, goal = {"kind": "mlp", "hidden": [6]}, {"kind": "regression", "target": "reward"}
    agent = {"observes": ["observation"], "network": network, "objective": goal}
    return scenario_of({"a": agent}, env=env, batch=env.num_envs, telemetry={"every": 1})


def test_an_environment_that_cannot_be_copied_is_named_and_is_not_touched() -> None:
    env = Counters(4)
    simulation = Simulation(counting(env))
    simulation.run(1)
    at = env.at.copy()
    with pytest.raises(RunError, match="cannot be saved or forked; give it state_dict and load_state_dict"):
        simulation.fork()
    assert np.array_equal(env.at, at)


def test_rewards_can_condition_a_synthetic_gradient() -> None:
    agents = {"a": {"observes": ["image"]}, "b": {"objective": {"kind": "classification", "target": "label"}}}
    channel = {"from": "a", "to": "b", "size": 4, "gradient": {"context": ["label", "reward", "terminated"]}}
    with Simulation(scenario_of(agents, [channel])) as simulation:
        simulation.run(3)
        predictor = simulation.channels["a->b"].synthetic_gradient
        assert predictor is not None
        assert (4, 4 + 10 + 2) in [tuple(p.shape) for p in predictor.parameters.values()]
