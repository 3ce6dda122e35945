"""A Gymnasium environment made of NumPy: random walks, whose episodes may end at different times."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from antiphon.scenarios import Scenario
from tests.engine.scenes import scenario_of


class Walk(VectorEnv[Any, Any, Any]):
    """Random walks from starts that the seed chooses; with `ends`, that of environment i ends every i + 2 steps."""

    def __init__(self, num_envs: int, *, ends: bool = False) -> None:
        self.num_envs, self.ends = num_envs, ends
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = Box(-100.0, 100.0, (2,), np.float32)
        self.single_action_space = Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.reset()

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.generator, self.clock = np.random.default_rng(seed), 0
        self.at = self.normal()
        return self.at.copy(), {}

    def normal(self) -> Any:
        return self.generator.normal(size=(self.num_envs, 2)).astype(np.float32)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.clock += 1
        self.at += self.normal()
        ended = (self.clock % (np.arange(self.num_envs) + 2) == 0) & self.ends
        last = self.at.copy()
        self.at[ended] = 0
        info = {"final_obs": list(last), "_final_obs": ended} if ended.any() else {}
        return self.at.copy(), last.sum(1), ended, np.zeros_like(ended), info

    def state_dict(self) -> dict[str, Any]:
        generator = repr(self.generator.bit_generator.state)
        return {"at": torch.from_numpy(self.at.copy()), "clock": self.clock, "generator": generator}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at, self.clock = state["at"].numpy().copy(), state["clock"]
        self.generator.bit_generator.state = eval(state["generator"])


def walking(*, ends: bool = False, unroll: int = 1, period: int = 1) -> Scenario:
    """An agent that sees where the walks are tells another, which has the reward to learn and hears itself."""
    network = {"kind": "mlp", "hidden": [5]}
    goal = {"kind": "regression", "target": "reward"}
    agents = {
        "a": {"observes": ["observation"], "network": network, "clock": {"period": period, "unroll": unroll}},
        "b": {"network": network, "objective": goal, "clock": {"unroll": unroll}},
    }
    channels = [
        {"from": "a", "to": "b", "size": 3, "gradient": {"context": ["reward"]}},
        {"from": "b", "to": "b", "size": 3, "link": {"delay": 3}},
    ]
    return scenario_of(agents, channels, partial(Walk, ends=ends), batch=4, steps=50)
