"""Returns of whole episodes: greedy and sampled, per agent, and what cannot be evaluated. Against a loop by hand: test_policy.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.spaces import Dict, Discrete
from torch import Tensor

from antiphon import Simulation
from antiphon.envs import Description, Signal, TorchVectorEnv
from antiphon.scenarios import Scenario
from tests.engine.scenes import CLASSIFY, scenario_of

PPO: dict[str, Any] = {"kind": "ppo", "epochs": 2, "minibatches": 2}
MOTOR: dict[str, Any] = {
    "observes": ["observation"],
    "network": {"kind": "mlp", "hidden": [8]},
    "objective": PPO,
    "clock": {"unroll": 4},
    "acts": True,
}


def cart(**training: Any) -> Scenario:
    env = {"id": "antiphon/CartPole-v0", "limit": 60}
    return scenario_of({"motor": MOTOR}, env=env, **({"batch": 5, "steps": 40} | training))


@pytest.mark.long
def test_sampled_episodes_are_the_same_at_every_evaluation_and_not_those_of_other_splits() -> None:
    with Simulation(cart()) as simulation:
        simulation.run(8)
        sampled = simulation.evaluate(sampled=True, episodes=4)
        assert sampled == simulation.evaluate(sampled=True, episodes=4)
        assert sampled.return_ != simulation.evaluate(episodes=4).return_
        assert sampled.return_ != simulation.evaluate("validation", sampled=True, episodes=4).return_
        assert sampled.episodes is not None
        assert sampled.episodes.actions == "sampled"


class Shares(TorchVectorEnv):
    """Two agents with rewards of their own; episode lengths are 2, 3, …; actions do nothing."""

    def __init__(self, num_envs: int, endless: bool = False) -> None:
        own = Signal(training_only=True, known="after_step")
        signals = {"observation": Signal(shape=(1,)), "reward.left": own, "reward.right": own}
        space = Dict(left=Discrete(2), right=Discrete(2))
        description = Description(signals=signals, example_counts={}, action_space=space, endless=endless)
        super().__init__(num_envs, description, space)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._begin_seed(seed)
        self.at = torch.zeros(self.num_envs)
        return {"observation": self.at.unsqueeze(1)}, {}

    def step(self, actions: Any) -> Any:
        self.at = self.at + 1
        ended = self.at >= torch.arange(self.num_envs) + 2
        if self.endless:
            ended = torch.zeros_like(ended)
        rewards = {"reward.left": self.at.clone(), "reward.right": -torch.ones(self.num_envs)}
        self.at = self.at.masked_fill(ended, 0)
        total: Tensor = sum(rewards.values())  # type: ignore[assignment]
        return {"observation": self.at.unsqueeze(1)}, total, ended, torch.zeros_like(ended), rewards

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"]


def sharing(env: Any, **objective: Any) -> Scenario:
    agents = {name: {**MOTOR, "acts": name, "objective": {**PPO, **objective}} for name in ("left", "right")}
    return scenario_of(agents, env=env, batch=3, readout=None)


def test_returns_are_those_of_each_agents_own_reward() -> None:
    with Simulation(sharing(Shares)) as simulation:
        found = simulation.evaluate(episodes=2)
    left = (3 + 6 + 10) / 3
    assert found.agents == {"left": {"return": pytest.approx(left)}, "right": {"return": -3.0}}
    assert found.return_ == pytest.approx((left - 3) / 2)
    assert found.episodes is not None
    assert found.episodes.length == 3
    assert found.episodes.returns == {
        "reward": pytest.approx(left - 3),
        "reward.left": pytest.approx(left),
        "reward.right": -3.0,
    }
    with Simulation(sharing(Shares, reward={"reward": 1.0})) as simulation:
        found = simulation.evaluate()
        assert found.agents["left"] == found.agents["right"] == {"return": pytest.approx(left - 3)}


def test_games_over_examples_are_played_once_through_the_split_and_targets_scored_as_ever() -> None:
    env = {"id": "antiphon/Referential-v0", "candidates": 3}
    network = {"kind": "mlp", "hidden": [6]}
    speaker = {"observes": ["shown"], "network": network, "objective": {**CLASSIFY}}
    listener = {"observes": ["candidates"], "network": network, "acts": True}
    channels = [{"from": "speaker", "to": "listener", "size": 4, "coupling": "detached"}]
    found: dict[str, Any] = {}
    for kind in ("reinforce", "classification"):
        goal = {"kind": kind} if kind == "reinforce" else {"kind": kind, "target": "target"}
        agents = {"speaker": speaker, "listener": {**listener, "objective": goal}}
        with Simulation(scenario_of(agents, channels, env, readout="listener", batch=50)) as simulation:
            assert simulation.world.env.example_count("test") == 360
            found[kind] = simulation.evaluate()
            if kind == "reinforce":
                found["sampled"] = simulation.evaluate("validation", sampled=True)
    games = found["reinforce"]
    assert (games.episodes.count, games.episodes.length) == (400, 1)  # 8 games of each of 50 environments
    assert games.agents["speaker"] == found["classification"].agents["speaker"]
    assert 0.1 < games.return_ < 0.6  # a reward of 1 for one of 3
    assert games.episodes.returns["reward"] == games.return_
    assert 0.2 < found["sampled"].return_ < 0.5
