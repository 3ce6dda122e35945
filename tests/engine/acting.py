"""A world for agents that act: what follows depends on their actions, episodes end, and some steps are no experience."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor

from antiphon.envs import Description, Signal, TorchVectorEnv
from antiphon.envs.base import StepResult
from antiphon.nets.random import normal, uniform

AFTER = {"training_only": True, "known": "after_step"}


@dataclass(frozen=True)
class Stage:
    """A source of such a world.

    Attributes:
        space: Of actions: one space, or a Dict.
        ends: The share of (step, environment) at which an episode ends, half of them terminated.
        gaps: The share that is no experience.
        rewards: Agents with a reward of their own.
    """

    space: gymnasium.Space[Any]
    ends: float = 0.12
    gaps: float = 0.0
    rewards: tuple[str, ...] = ()

    @property
    def description(self) -> Description:
        """What is seen is a view, and a place that actions move."""
        own = {f"reward.{name}": Signal(**AFTER) for name in self.rewards}
        signals = {"view": Signal(shape=(3,)), "place": Signal(shape=(2,)), **own}
        return Description(signals=signals, example_counts={}, action_space=self.space)

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        """Return so many environments."""
        where.pop("split", None)
        return _Stage(self, batch, **where)


class _Stage(TorchVectorEnv):
    def __init__(self, source: Stage, batch: int, **where: Any) -> None:
        super().__init__(batch, source.description, source.space, **where)
        self._source, self._seed = source, 0
        self._step, self._place = 0, torch.zeros(batch, 2, dtype=self.dtype)

    def _normal(self, purpose: int, size: int) -> Tensor:
        found = normal(97 * (self._seed or 0) + purpose, self._step, self.num_envs * size)
        return found.view(self.num_envs, size).to(self.dtype)

    def _chance(self, purpose: int) -> Tensor:
        return uniform(97 * (self._seed or 0) + purpose, self._step, self.num_envs)

    def _shown(self) -> dict[str, Tensor]:
        return {"view": self._normal(1, 3), "place": self._place.clone()}

    def reset(self, *, seed: Any = None, **_: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._seed = int(seed or 0)
        self._step, self._place = 0, torch.zeros(self.num_envs, 2, dtype=self.dtype)
        return self._shown(), {}

    def step(self, actions: Any = None) -> StepResult:
        parts = [actions[name] for name in sorted(actions)] if isinstance(actions, dict) else [actions]
        assert all(part is not None for part in parts)
        sums = [part.to(self.dtype).reshape(self.num_envs, -1).sum(1) for part in parts]
        total = torch.stack(sums).sum(0)
        view = self._normal(1, 3)
        reward = (total - view[:, 0]).tanh() + self._place[:, 0] * 0.3
        ended = self._chance(2) < self._source.ends
        terminated = ended & (self._chance(3) < 0.5)
        info: dict[str, Any] = {}
        for number, (name, part) in enumerate(zip(self._source.rewards, sums, strict=False)):
            info[f"reward.{name}"] = reward + part * (number + 1)
        if self._source.gaps:
            known = self._chance(4) >= self._source.gaps
            info |= {f"_reward{name}": known for name in ("", *(f".{n}" for n in self._source.rewards))}
        moved = self._place + torch.stack([total, view[:, 1]], 1) * 0.5
        self._place = moved.masked_fill(ended.unsqueeze(1), 0)
        self._step += 1
        return self._shown(), reward, terminated, ended & ~terminated, info

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self._seed, "step": self._step, "place": self._place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seed, self._step, self._place = state["seed"], state["step"], state["place"]


ONE = spaces.Discrete(3)
SEVERAL = spaces.Dict({"left": spaces.Discrete(2), "right": spaces.Box(-1, 1, (2,))})
