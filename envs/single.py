"""Single-environment wrapper of a vector environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from antiphon.envs.base import TorchVectorEnv

__all__ = ["SingleLane"]


class SingleLane(gymnasium.Env[dict[str, NDArray[Any]], Any]):
    """Plain Gymnasium environment of a vector environment of one: numpy in, numpy out.

    Args:
        env: Vector environment with one sub-environment.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium declares it an instance attribute

    def __init__(self, env: TorchVectorEnv) -> None:
        self._env = env
        self.observation_space: gymnasium.Space[Any] = env.single_observation_space
        self.action_space: gymnasium.Space[Any] = env.single_action_space
        self._next: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Reset to a seed, or without one go on to the next example or episode."""
        super().reset(seed=seed)
        pending = self._next if seed is None else None
        self._next = None
        return _single(*(pending or self._env.reset(seed=seed)))

    def step(self, action: Any) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Take an action, or None for none, and return the next step."""
        obs, reward, terminated, _, info = self._env.step(
            None if action is None else np.asarray(action)[None]
        )
        ended = bool(terminated.item())
        if ended:  # the vector environment has begun the next episode, this one waits for its reset
            final = info.pop("final_obs"), info.pop("final_info")
            self._next = obs, {name: info[name] for name in final[1]}
            obs, info = final
        observation, facts = _single(obs, info)
        return observation, reward.item(), ended, False, facts


def _single(obs: dict[str, Tensor], info: dict[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the observations as arrays without the batch axis, and the rest as numbers or lists of them."""
    return {name: value[0].numpy().copy() for name, value in obs.items()}, {
        name: value[0].tolist() for name, value in info.items()
    }
