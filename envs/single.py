"""One lane of a stream as a plain Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
from numpy.typing import NDArray
from torch import Tensor

from antiphon.envs.stream import ExampleStream

__all__ = ["SingleExample"]


class SingleExample(gymnasium.Env[dict[str, NDArray[Any]], int]):
    """The only lane of a stream of examples: numpy in, numpy out.

    Args:
        stream: Has one lane.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium declares it an instance attribute

    def __init__(self, stream: ExampleStream) -> None:
        self._stream = stream
        self.observation_space: gymnasium.Space[Any] = stream.single_observation_space
        self.action_space: gymnasium.Space[Any] = stream.single_action_space
        self._next: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Show the first example of a seed, or without one the next."""
        super().reset(seed=seed)
        shown = self._next if seed is None else None
        self._next = None
        return _single(*(shown or self._stream.reset(seed=seed)))

    def step(self, action: int | None) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Take a guess at the example's class, and show the next step's example."""
        obs, reward, terminated, _, info = self._stream.step(None if action is None else [int(action)])
        ended = bool(terminated.item())
        if ended:  # the stream has moved on to the next example, this environment waits for its reset
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
