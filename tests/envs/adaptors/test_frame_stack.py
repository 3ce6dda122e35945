"""Stacks of the newest observations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from antiphon import Scenario, Simulation, envs

SPACES: dict[str, spaces.Space[Any]] = {
    "grey": spaces.Box(0, 255, (6, 5), np.uint8),
    "last": spaces.Box(0, 255, (6, 6, 3), np.uint8),
    "first": spaces.Box(0, 255, (3, 6, 6), np.uint8),
    "vector": spaces.Box(0, 99, (2,), np.float32),
    "parts": spaces.Dict(),
}
STACKED = {"grey": (3, 6, 5), "last": (6, 6, 9), "first": (9, 6, 6), "vector": (6,)}


class Counter(gymnasium.Env[Any, Any]):
    """Every number is that of the step of the episode, which ends after five."""

    action_space = spaces.Discrete(2)

    def __init__(self, of: str = "vector") -> None:
        self.observation_space = SPACES[of]

    def _shown(self) -> Any:
        space = self.observation_space
        return np.full(space.shape, self.steps, space.dtype) if isinstance(space, spaces.Box) else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._shown(), float(action), False, self.steps == 5, {}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


envs.register("tests/Counter-v0", Counter)
gymnasium.register("Stacked/Counter-v0", Counter)


@pytest.mark.parametrize("name", ["tests/Counter-v0", "gymnasium/Stacked/Counter-v0"])
@pytest.mark.parametrize("of", STACKED)
def test_the_newest_observations_are_side_by_side_the_first_one_repeated(name: str, of: str) -> None:
    env = envs.make({"id": name, "of": of, "stack": 3}, batch=2)
    assert env.signals["observation"].shape == STACKED[of]
    seen = [env.reset(seed=0)[0]["observation"]]
    for step in range(7):
        obs, *_, info = env.step(torch.zeros(2, dtype=torch.long))
        if step == 4:
            last = info["final_obs"]["observation"]
        seen.append(obs["observation"])
    steps = [[max(step % 5 - back, 0) for back in (2, 1, 0)] for step in range(8)]
    scale = 1 if of == "vector" else 255
    for numbers, stacks in [*zip(steps, seen, strict=True), ([3, 4, 5], last)]:
        single = SPACES[of].shape or ()
        each = [torch.full(single, float(number)) for number in numbers]
        axis = {"last": -1}.get(of, 0)
        wanted = torch.stack(each) if of == "grey" else torch.cat(each, axis)
        torch.testing.assert_close(stacks * scale, wanted.expand(2, *wanted.shape))


@pytest.mark.cases(1)
def test_runs_with_stacks_are_resumed_to_the_bit_and_evaluated(tmp_path: Path) -> None:
    player = {"observes": ["observation"], "acts": True, "objective": "ppo", "clock": {"unroll": 4}}
    env = {"id": "tests/Counter-v0", "stack": 3}
    scenario = Scenario(scenario="s", env=env, agents={"a": player}, training={"batch": 2})
    with Simulation(scenario) as whole:
        whole.run(steps=23, progress=False)
        wanted = whole.agents["a"].parameters
        assert whole.evaluate(episodes=2).episodes is not None
    with Simulation(scenario) as first:
        first.run(steps=11, progress=False)
        first.save(tmp_path / "half")
    with Simulation.load(tmp_path / "half") as rest:
        rest.run(steps=12, progress=False)
        assert all(torch.equal(p, wanted[name]) for name, p in rest.agents["a"].parameters.items())


@pytest.mark.parametrize("env", [Counter, {"id": "gymnasium/CartPole-v1", "vectorization_mode": "sync"}])
def test_a_policy_of_a_stack_plays_in_the_plain_environment(env: Any) -> None:
    envs.register("mine/Plain-v0", Counter)
    spec = {"id": "mine/Plain-v0", "stack": 3} if env is Counter else {**env, "stack": 3}
    agent = {"observes": ["observation"], "acts": True, "objective": "ppo"}
    scenario = Scenario(scenario="s", env=spec, agents={"p": agent}, training={"batch": 2, "steps": 4})
    world: Any = Counter() if env is Counter else gymnasium.make("CartPole-v1")
    with Simulation(scenario) as simulation:
        policy, of_stacked = simulation.policy(), simulation.policy()
        frames = [world.reset(seed=0)[0]] * 3
        for _ in range(5):
            action = policy.act(frames[-1])
            assert action == of_stacked.act(np.concatenate(frames))
            frames = [*frames[1:], world.step(action)[0]]
        policy.reset(True)
        of_stacked.reset()
        assert policy.act(frames[0]) == of_stacked.act(np.concatenate([frames[0]] * 3))
