"""The world: an environment seen as moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from antiphon.engine.core.environment import EnvironmentRunner
from antiphon.engine.simulation import Simulation
from antiphon.envs import registry
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Scenario
from tests.engine.scenes import scenario_of


def world(names: set[str], **options: Any) -> EnvironmentRunner:
    env = registry.make({"id": "antiphon/Digits-v0", **options}, batch=3)
    return EnvironmentRunner(env, names, seed=4)


def test_a_moment_has_the_signals_that_were_asked_for() -> None:
    found = world({"left_half", "label"})
    assert found.step_signals.step == 0
    assert set(found.step_signals.signals) == {"left_half", "label"}
    first = found.step_signals
    found.advance()
    assert found.step_signals.step == 1
    assert first.step == 0
    assert not torch.equal(first.signals["left_half"], found.step_signals.signals["left_half"])


def test_a_held_example_is_shown_again() -> None:
    found = world({"image"}, hold=3)
    shown = [found.step_signals.signals["image"]]
    for _ in range(3):
        assert found.advance().ended is False
        shown.append(found.step_signals.signals["image"])
    assert torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[2], shown[3])


def test_episodes_end_with_their_example() -> None:
    found = world({"image"}, hold=3, episode="example")
    assert [found.advance().ended for _ in range(7)] == [False, False, True, False, False, True, False]


def test_a_reset_with_the_same_seed_shows_the_same() -> None:
    found = world({"image"})
    first = found.step_signals.signals["image"]
    found.advance()
    found.reset(4)
    assert found.step_signals.step == 0
    assert torch.equal(found.step_signals.signals["image"], first)
    found.reset(5)
    assert not torch.equal(found.step_signals.signals["image"], first)


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


def test_what_is_known_after_the_step_completes_the_moment_of_that_step() -> None:
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
    network, goal = {"kind": "mlp", "hidden": [6]}, {"kind": "regression", "target": "reward"}
    agent = {"observes": ["observation"], "network": network, "objective": goal}
    return scenario_of({"a": agent}, env=env, batch=4, optimiser={"kind": "adam", "lr": 0.02})


def test_a_gymnasium_environment_is_learned_from() -> None:
    simulation = Simulation(counting(Counters(4)))
    losses = [float(info["losses"]["a"]) for info in (simulation.step() for _ in range(300))]
    assert sum(losses[-20:]) < 0.1 * sum(losses[:20])


def test_one_that_cannot_be_copied_says_so_and_is_not_touched() -> None:
    env = Counters(4)
    simulation = Simulation(counting(env))
    simulation.run(1)
    at = env.at.copy()
    with pytest.raises(RunError, match="cannot be saved or forked; give it state_dict and load_state_dict"):
        simulation.fork()
    assert np.array_equal(env.at, at)


@pytest.mark.parametrize("options", [{}, {"hold": 2, "episode": "example"}])
def test_what_a_step_came_to_is_a_signal_of_every_world(options: dict[str, Any]) -> None:
    found = world({"image", "reward", "terminated", "truncated"}, **options)
    plain = world({"image"}, **options)
    for step in range(6):
        first = found.step_signals
        assert set(first.signals) == {"image"}
        ended = found.advance().ended
        assert plain.advance().ended is ended is (bool(options) and step % 2 == 1)
        assert torch.equal(first.signals["terminated"], torch.full((3,), float(ended)))
        assert not first.signals["truncated"].any()
        assert not first.signals["reward"].any()
        assert torch.equal(found.step_signals.signals["image"], plain.step_signals.signals["image"])


def test_rewards_can_condition_a_synthetic_gradient_and_no_agent() -> None:
    goal = {"kind": "classification", "target": "label"}
    agents: dict[str, Any] = {"a": {"observes": ["image"]}, "b": {"objective": goal}}
    channel = {"from": "a", "to": "b", "size": 4, "gradient": {"context": ["label", "reward", "terminated"]}}
    with Simulation(scenario_of(agents, [channel])) as simulation:
        simulation.run(3)
        predictor = simulation._system.channels["a->b"].predictor
        assert predictor is not None
        assert (4, 4 + 10 + 2) in [tuple(p.shape) for p in predictor.parameters.values()]
    agents["a"] = {"observes": ["reward"]}
    with pytest.raises(ScenarioError, match="'reward' is a training-only signal, which no agent may see"):
        Simulation(scenario_of(agents, [channel]))
