"""Other people's vector environments: signals, the three autoreset modes, and what has no translation."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from antiphon import envs
from antiphon.errors import ScenarioError


class Count(gymnasium.Env[dict[str, Any], int]):
    """Counts its steps; an episode has 3 of them or 2, drawn at its reset."""

    observation_space = spaces.Dict(
        {
            "count": spaces.Box(0, 99, (1,), np.float64),
            "pixels": spaces.Box(0, 255, (2, 2), np.uint8),
            "which": spaces.Discrete(4, start=1),
            "bits": spaces.MultiBinary(2),
        }
    )
    action_space: gymnasium.Space[Any] = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.limit = 0, 3 - int(self.np_random.integers(2))
        return self._show(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self._show(), float(action), self.count == self.limit, False, {}

    def _show(self) -> dict[str, Any]:
        return {
            "count": np.array([float(self.count)]),
            "pixels": np.full((2, 2), 51, np.uint8),
            "which": 1 + self.count % 4,
            "bits": np.array([0, 1], np.int8),
        }


class Lasting(Count):
    """Episodes of one length, a reward of the action."""

    def __init__(self, length: int) -> None:
        self.length = length

    def reset(self, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        result = super().reset(**settings)
        self.limit = self.length
        return result


def counters(mode: AutoresetMode, number: int = 3) -> SyncVectorEnv:
    return SyncVectorEnv([Count] * number, autoreset_mode=mode)


@pytest.mark.cases(1)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_contract(mode: AutoresetMode) -> None:
    envs.check_vector_env(lambda: envs.make(partial(counters, mode), batch=3), steps=20)


def test_signals_follow_the_spaces() -> None:
    env = envs.make(partial(counters, AutoresetMode.SAME_STEP), batch=3, dtype=torch.float64)
    assert env.signals["count"] == envs.Signal(shape=(1,), low=0.0, high=99.0)
    assert env.signals["pixels"] == envs.Signal(shape=(2, 2), low=0.0, high=1.0)
    assert env.signals["which"] == envs.Signal(classes=4)
    obs, info = env.reset(seed=0)
    assert info == {}
    assert torch.equal(obs["pixels"], torch.full((3, 2, 2), 0.2, dtype=torch.float64))
    assert obs["which"].tolist() == [0, 0, 0]
    assert obs["bits"].tolist() == [[0, 1]] * 3
    assert env.single_action_space == spaces.Discrete(2)
    _, reward, _, _, info = env.step(torch.tensor([0, 1, 1]))
    assert reward.tolist() == info["reward"].tolist() == [0, 1, 1]
    assert env.step(torch.tensor([[0.5, -1.0], [-2.0, -1.0], [0.0, 3.0]]))[1].tolist() == [0, 1, 1]
    with pytest.raises(ScenarioError, match=r"actions are \[3, 4\]; pass the logits of 2 choices, \[3, 2\]"):
        env.step(torch.zeros(3, 4))


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_outcomes_are_of_the_step_that_ended_the_episode(mode: AutoresetMode) -> None:
    def limited(length: int) -> gymnasium.Env[Any, Any]:
        return TimeLimit(Lasting(length), 3)

    rows = [partial(limited, 2), partial(limited, 9)]
    env = envs.make(lambda: SyncVectorEnv(rows, autoreset_mode=mode), batch=2)
    env.reset(seed=0)
    steps, known = [], []
    for _ in range(4):
        steps.append(env.step(torch.tensor([1, 1])))
        _, _, *returned, info = steps[-1]
        known += [env.uniform(mask) for mask in [info.get("_reward")] if mask is not None]
        for mask in (*returned, info["terminated"], info["truncated"]):
            assert env.anywhere(mask) is bool(mask.any())
    found = [info for *_, info in steps]
    ends = [(info["terminated"].tolist(), info["truncated"].tolist()) for info in found]
    reset_later = mode is AutoresetMode.NEXT_STEP
    assert ends == [
        ([0, 0], [0, 0]),
        ([1, 0], [0, 0]),  # the first world ends its episode, the time limit cuts off the second's
        ([0, 0], [0, 1]),
        ([0 if reset_later else 1, 0], [0, 0]),
    ]
    late = [(terminated.tolist(), truncated.tolist()) for _, _, terminated, truncated, _ in steps]
    assert late == ([([0, 0], [0, 0]), *ends[:-1]] if reset_later else ends)  # with the reset
    masks = [info["_reward"].tolist() for info in found if "_reward" in info]
    assert masks == ([[True, True], [True, True], [False, True], [True, False]] if reset_later else [])
    assert known == (
        [True, True, None, None] if reset_later else []
    )  # where no row was reset the host knows it


class Torch(gymnasium.vector.VectorEnv[torch.Tensor, torch.Tensor, torch.Tensor]):
    """A vector environment in torch that can be saved: a sum of actions."""

    def __init__(self) -> None:
        self.num_envs = 2
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = spaces.Box(-9, 9, (1,))
        self.single_action_space = spaces.Box(-1, 1, (1,))
        self.observation_space = spaces.Box(-9, 9, (2, 1))
        self.action_space = spaces.Box(-1, 1, (2, 1))
        self.total = torch.zeros(2, 1)
        self.closed_by_adaptor = False

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[torch.Tensor, dict[str, Any]]:
        self.total = torch.zeros(2, 1)
        return self.total, {}

    def step(self, actions: torch.Tensor) -> Any:
        self.total += actions.clamp(-1, 1)
        off = torch.zeros(2, dtype=torch.bool)
        return self.total, self.total[:, 0], off, off, {}

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = state["total"].clone()

    def close_extras(self, **kwargs: Any) -> None:
        self.closed_by_adaptor = True


def test_torch_environments_keep_their_tensors_and_state() -> None:
    inner = Torch()
    env = envs.make(lambda: inner, batch=2)
    first, _ = env.reset(seed=0)
    env.step(torch.ones(2, 1))
    assert first["observation"].tolist() == [[0], [0]]  # a copy, though the environment writes in place
    twin = envs.make(Torch, batch=2)
    twin.load_state_dict(env.state_dict())
    for _ in range(2):
        ones = torch.ones(2, 1)
        assert torch.equal(env.step(ones)[0]["observation"], twin.step(ones)[0]["observation"])
    env.close()
    assert inner.closed_by_adaptor


class Saved(Count):
    """The same with a state."""

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "limit": self.limit, "random": self.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.limit = state["count"], state["limit"]
        self.np_random.bit_generator.state = state["random"]
