"""One lane of a vector environment as a plain Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from antiphon.envs.base import TorchVectorEnv

__all__ = ["SingleLane"]


class SingleLane(gymnasium.Env[dict[str, NDArray[Any]], Any]):
    """The only lane of an environment: numpy in, numpy out.

    Args:
        lanes: Has one lane.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium declares it an instance attribute

    def __init__(self, lanes: TorchVectorEnv) -> None:
        self._lanes = lanes
        self.observation_space: gymnasium.Space[Any] = lanes.single_observation_space
        self.action_space: gymnasium.Space[Any] = lanes.single_action_space
        self._next: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin with what a seed names, or without one go on to the next example or episode."""
        super().reset(seed=seed)
        shown = self._next if seed is None else None
        self._next = None
        return _single(*(shown or self._lanes.reset(seed=seed)))

    def step(self, action: Any) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Take an action, or None for none, and show the next step."""
        obs, reward, terminated, _, info = self._lanes.step(
            None if action is None else np.asarray(action)[None]
        )
        ended = bool(terminated.item())
        if ended:  # the lane has moved on to the next episode, this environment waits for its reset
            shown = info.pop("final_obs"), info.pop("final_info")
            self._next = obs, {name: info[name] for name in shown[1]}
            obs, info = shown
        observation, facts = _single(obs, info)
        return observation, reward.item(), ended, False, facts


def _single(obs: dict[str, Tensor], info: dict[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the only lane's observations as arrays of their own, and the rest as numbers or lists of them."""
    return {name: value[0].numpy().copy() for name, value in obs.items()}, {
        name: value[0].tolist() for name, value in info.items()
    }
