"""What rows of Gymnasium's vector environments change without a word: final observations, and whole numbers of another type."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from antiphon.base.errors import RunError
from antiphon.envs.adaptors.spaces import leaves, part_at


class FinalObservation(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Copy of the last observation of each episode, and whole numbers as they are, or a RunError.

    Gymnasium's vector environments keep the array itself as `final_obs`, and then reset the environment, which may write to it.
    They write observations into arrays of the space's type, in which larger whole numbers become others: 300 in int8 is 44.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        boxes = leaves(env.observation_space).items()
        self._whole = [
            (path, box) for path, box in boxes if isinstance(box, spaces.Box) and box.dtype.kind in "iu"
        ]

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        shown, info = self.env.reset(**settings)
        self._check(shown)
        return shown, info

    def _check(self, observation: Any) -> None:
        """Raise a RunError if a whole number is none of its space's type."""
        for path, box in self._whole:
            value = np.asarray(part_at(observation, path))
            if value.dtype == box.dtype or value.dtype.kind not in "iu":
                continue
            limits = np.iinfo(box.dtype)
            outside = value[(value < limits.min) | (value > limits.max)]
            if outside.size:
                name = ".".join(map(str, path)) or "observation"
                fix = "declare another dtype, such as numpy.int64"
                raise RunError(
                    f"env: '{name}' is {outside.flat[0]}, which its Box of {box.dtype} cannot hold; {fix}"
                )

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Take a step; the observation is a copy where the episode ends."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._check(observation)
        if terminated or truncated:
            observation = deepcopy(observation)
        return observation, reward, terminated, truncated, info
