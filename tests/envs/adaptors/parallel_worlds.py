"""A parallel world of PettingZoo."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from numpy.typing import NDArray
from pettingzoo import ParallelEnv


class Mines(ParallelEnv[str, Any, Any]):
    """Two walkers of unlike senses on a line; a mine kills the walker on it, and the world ends after `limit` steps.

    `low` sees its place and acts by Discrete, `high` a Dict and acts by a Box. The reward is the place that is reached.
    """

    metadata = {"name": "mines_v0", "render_modes": ["rgb_array"]}  # noqa: RUF012
    possible_agents = ["low", "high"]  # noqa: RUF012
    state_space = spaces.Box(-99, 99, (2,), np.float32)

    def __init__(self, mine: float = 3, limit: int = 4, render_mode: str | None = None) -> None:
        self.mine, self.limit, self.render_mode = mine, limit, render_mode
        self.agents: list[str] = []
        self.places = {"low": 0.0, "high": 0.0}
        self.closed = False

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        place = spaces.Box(-99, 99, (1,), np.float32)
        return place if agent == "low" else spaces.Dict({"place": place, "sign": spaces.Discrete(2, start=1)})

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(3, start=-1) if agent == "low" else spaces.Box(-2, 2, (1,), np.float32)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if seed is not None or not hasattr(self, "np_random"):
            self.np_random, _ = seeding.np_random(seed)
        self.agents, self.steps = list(self.possible_agents), 0
        self.places = {agent: float(self.np_random.integers(2)) for agent in self.agents}
        return self._seen(self.agents), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        assert set(actions) == set(self.agents)
        self.steps += 1
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action), (agent, action)
            self.places[agent] += float(action if agent == "low" else action[0])
        rewards = {agent: self.places[agent] for agent in self.agents}
        dead = {agent: self.places[agent] >= self.mine for agent in self.agents}
        late = {agent: self.steps >= self.limit and not dead[agent] for agent in self.agents}
        seen, facts = self._seen(self.agents), {agent: {} for agent in self.agents}
        self.agents = [agent for agent in self.agents if not dead[agent] and not late[agent]]
        return seen, rewards, dead, late, facts

    def state(self) -> NDArray[np.float32]:
        return np.array([self.places["low"], self.places["high"]], np.float32)

    def render(self) -> NDArray[np.uint8]:
        return np.full((2, 2, 3), self.steps, np.uint8)

    def close(self) -> None:
        self.closed = True

    def _seen(self, agents: list[str]) -> dict[str, Any]:
        places = {agent: np.array([self.places[agent]], np.float32) for agent in agents}
        return {
            agent: place if agent == "low" else {"place": place, "sign": 1 + int(place[0] >= 0)}
            for agent, place in places.items()
        }


class SavedMines(Mines):
    """The same with a state."""

    def state_dict(self) -> dict[str, Any]:
        return {
            "agents": list(self.agents),
            "steps": self.steps,
            "places": dict(self.places),
            "random": self.np_random.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.agents, self.steps, self.places = (
            list(state["agents"]),
            state["steps"],
            dict(state["places"]),
        )
        self.np_random.bit_generator.state = state["random"]


parallel_env = Mines
