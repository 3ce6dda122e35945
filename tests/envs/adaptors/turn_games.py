"""A turn-based world of PettingZoo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from pettingzoo import AECEnv

CHOICES = 4


class Race(AECEnv[str, Any, Any]):
    """Two runners move by 0 to 3 cells, by turns, and again after 0; no runner makes the same move twice running.

    The mover gets the cells, and the other loses half of them. The race terminates for both when one arrives, and is truncated
    after `limit` moves. Every move is kept in `log`.
    """

    metadata = {"name": "race_v0", "render_modes": []}  # noqa: RUF012
    render_mode = None
    possible_agents = ["red", "blue"]  # noqa: RUF012

    def __init__(self, length: int = 6, limit: int = 99, strict: bool = True) -> None:
        self.length, self.limit, self.strict = length, limit, strict
        self.agents: list[str] = []
        self.log: list[dict[str, Any]] = []

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        mask = spaces.Box(0, 1, (CHOICES,), np.int8)
        return spaces.Dict({"action_mask": mask, "observation": spaces.Box(-99, 99, (3,), np.float32)})

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(CHOICES)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        if seed is not None or not hasattr(self, "np_random"):
            self.np_random, _ = seeding.np_random(seed)
        self.agents, self.moves = list(self.possible_agents), 0
        self.cells = dict.fromkeys(self.agents, 0)
        self.before = dict.fromkeys(self.agents, -1)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self.infos: dict[str, Any] = {agent: {} for agent in self.agents}
        self.agent_selection = str(self.np_random.choice(self.agents))

    def agent_iter(self) -> Iterator[str]:
        while self.agents:
            yield self.agent_selection

    def close(self) -> None:
        """Close nothing: there is no window."""

    def observe(self, agent: str) -> dict[str, Any]:
        other = next(one for one in self.possible_agents if one != agent)
        seen = [self.cells[agent], self.cells[other], self.moves]
        legal = np.zeros(CHOICES, np.int8)
        if self.agents and agent == self.agent_selection:
            legal[:] = np.arange(CHOICES) != self.before[agent]
        return {"observation": np.array(seen, np.float32) / 4, "action_mask": legal}

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            assert action is None
            self.agents.remove(agent)
            self.agent_selection = self.agents[0] if self.agents else agent
            return
        shown, other = self.observe(agent), next(one for one in self.agents if one != agent)
        assert shown["action_mask"][action] or not self.strict, f"{action} is not legal"
        self.cells[agent] += int(action)
        self.before[agent] = int(action)
        self.moves += 1
        self.rewards = {agent: float(action), other: -float(action) / 2}
        over = self.cells[agent] >= self.length
        late = self.moves >= self.limit and not over
        self.terminations = dict.fromkeys(self.agents, over)
        self.truncations = dict.fromkeys(self.agents, late)
        self.agent_selection = agent if action == 0 else other
        end = {one: self.observe(one) for one in self.agents} if over or late else {}
        self.log.append(
            {"agent": agent, "shown": shown, "action": int(action), "over": over, "late": late, "end": end}
        )


class SavedRace(Race):
    """The same with a state."""

    def state_dict(self) -> dict[str, Any]:
        held = {key: value for key, value in vars(self).items() if key not in ("log", "np_random")}
        copied = {
            key: value.copy() if isinstance(value, dict | list) else value for key, value in held.items()
        }
        return {**copied, "random": self.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            if key != "random":
                setattr(self, key, value.copy() if isinstance(value, dict | list) else value)
        self.np_random.bit_generator.state = state["random"]
