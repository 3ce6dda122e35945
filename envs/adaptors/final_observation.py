"""Final observations that a reset in the same step cannot overwrite."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium

__all__ = ["FinalObservation"]


class FinalObservation(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Copy of the last observation of each episode, for environments that return one buffer again and again.

    Gymnasium's vector environments keep the array itself as `final_obs`, and then reset the environment, which may write to it.
    """

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Take a step; the observation is a copy where the episode ends."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            observation = deepcopy(observation)
        return observation, reward, terminated, truncated, info
