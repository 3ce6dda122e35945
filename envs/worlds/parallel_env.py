"""Environments of antiphon as PettingZoo's parallel environments."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from antiphon.envs import registry
from antiphon.envs.base import SingleLane
from antiphon.envs.worlds.base import as_render_mode
from antiphon.errors import ScenarioError, suggest

__all__ = ["ParallelWorld", "parallel_env"]

_ALONE = "agent"


def parallel_env(spec: Any, *, render_mode: str | None = None) -> ParallelWorld:
    """Return one copy of an environment as a parallel environment of PettingZoo.

    Where PettingZoo is installed it is a `pettingzoo.ParallelEnv`; without it, it has the same methods.

    Args:
        spec: As of `make`, such as `{"id": "antiphon/SpeakerListener-v0"}`.
        render_mode: `rgb_array` or None.

    Raises:
        ScenarioError: As `make`, or a render mode that does not exist.
    """
    env = registry.make(spec, batch=1)
    name = spec["id"] if isinstance(spec, Mapping) else type(env).__name__
    made = _kind()(SingleLane(env), name.removeprefix("antiphon/"))
    made.render_mode = as_render_mode(render_mode)
    return made


@functools.cache
def _kind() -> type[ParallelWorld]:
    """Return the class of parallel environments, of PettingZoo's own where that is installed."""
    try:
        from pettingzoo import ParallelEnv  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return ParallelWorld
    return type("ParallelWorld", (ParallelWorld, ParallelEnv), {"__doc__": ParallelWorld.__doc__})


class ParallelWorld:
    """An environment whose agents act at the same time, each by its name.

    Where the action has parts, an agent is a part: it observes the signal of its name, and its reward is `reward.NAME` if there is
    one. Otherwise there is one agent, `agent`, that observes all observations. `infos` have the training-only signals.

    Args:
        env: One environment.
        name: Its name in `metadata`.
    """

    def __init__(self, env: SingleLane, name: str) -> None:
        self._env = env
        self.metadata: dict[str, Any] = {**env.metadata, "name": name, "is_parallelizable": True}
        self.render_mode: str | None = None
        action, observed = env.action_space, env.observation_space
        self._has_parts = isinstance(action, spaces.Dict)
        self.action_spaces: dict[str, gymnasium.Space[Any]] = {_ALONE: action}
        self.observation_spaces: dict[str, gymnasium.Space[Any]] = {_ALONE: observed}
        if isinstance(action, spaces.Dict):
            assert isinstance(observed, spaces.Dict)
            self.action_spaces = dict(action.spaces)
            self.observation_spaces = {name: observed[name] for name in action.spaces}
        self.possible_agents = list(self.action_spaces)
        self.agents: list[str] = []
        self._observed: dict[str, NDArray[Any]] | None = None

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the space of an agent's observations, the same object at every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the space of an agent's actions, the same object at every call."""
        return self.action_spaces[agent]

    @property
    def num_agents(self) -> int:
        """Number of agents that are alive."""
        return len(self.agents)

    @property
    def max_num_agents(self) -> int:
        """Number of all agents."""
        return len(self.possible_agents)

    @property
    def unwrapped(self) -> ParallelWorld:
        """The environment itself."""
        return self

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin an episode: the first of a seed, or without one the next.

        Returns:
            Observations and infos by agent.
        """
        self._observed, info = self._env.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._observations(), {agent: dict(info) for agent in self.agents}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Take a step.

        Args:
            actions: By agent, of all that are alive; after the end of an episode of none.

        Returns:
            Observations, rewards, terminations, truncations and infos by agent.

        Raises:
            ResetNeeded: There was no reset.
            ScenarioError: An agent has no action, or there is no such agent.
        """
        if self._observed is None:
            raise ResetNeeded("call reset() before step()")
        for agent in actions:
            if agent not in self.agents:
                raise ScenarioError(f"env: no agent '{agent}' is alive{suggest(str(agent), self.agents)}")
        for agent in self.agents:
            if agent not in actions:
                raise ScenarioError(
                    f"env: no action of agent '{agent}'; give one for each of {', '.join(self.agents)}"
                )
        if not self.agents:
            return {}, {}, {}, {}, {}
        given = dict(actions) if self._has_parts else actions[_ALONE]
        self._observed, reward, terminated, truncated, info = self._env.step(given)
        acted = self.agents
        rewards = {agent: float(info.get(f"reward.{agent}", reward)) for agent in acted}
        if terminated or truncated:
            self.agents = []
        return (
            self._observations(),
            rewards,
            dict.fromkeys(acted, terminated),
            dict.fromkeys(acted, truncated),
            {agent: dict(info) for agent in acted},
        )

    def state(self) -> NDArray[Any]:
        """Return all observations in one row.

        Raises:
            ResetNeeded: There was no reset.
        """
        if self._observed is None:
            raise ResetNeeded("call reset() before state()")
        return np.concatenate([np.ravel(value) for value in self._observed.values()])

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture `[height, width, 3]`, or without a render mode None."""
        return None if self.render_mode is None else self._env.render()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _observations(self) -> dict[str, Any]:
        assert self._observed is not None
        if not self._has_parts:
            return {_ALONE: dict(self._observed)}
        return {agent: self._observed[agent] for agent in self.possible_agents}
