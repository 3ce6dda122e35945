"""Tensors that a torch environment of one's own changes in place: those it is given, and those that it has returned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from antiphon import Scenario, Simulation, envs
from antiphon.envs import Description, Signal
from antiphon.errors import ScenarioError

SPACES: dict[str, spaces.Space[Any]] = {
    "choice": spaces.Discrete(3),
    "choices": spaces.MultiDiscrete([2, 3]),
    "numbers": spaces.Box(-1, 1, (2,)),
    "parts": spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(-np.inf, np.inf, (1,))),
}


class Writing(envs.TorchVectorEnv):
    """Shows its count of steps and the sum of its actions, and writes to what `writes` names."""

    def __init__(self, num_envs: int, space: str, writes: str) -> None:
        signals = {"observation": Signal(shape=(2,))}
        super().__init__(num_envs, Description(signals=signals, action_space=SPACES[space]), SPACES[space])
        self.writes, self.arrays = writes, np.zeros((num_envs, 2), np.float32)
        self.buffers = {"observation": torch.zeros(num_envs, 2), "reward": torch.zeros(num_envs)}
        self.buffers["array"], self.total = torch.from_numpy(self.arrays), torch.zeros(())

    def _in(self, name: str, values: Tensor) -> Tensor:
        if self.writes == "array" and name == "observation":
            self.arrays[...] = values.numpy()
            return self.buffers["array"]
        return self.buffers[name].copy_(values) if self.writes == name else values

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.count = 0
        if self.writes == "restored":
            return {"observation": self.buffers["observation"]}, {}
        return {"observation": self._in("observation", torch.zeros(self.num_envs, 2))}, {}

    def step(self, actions: Any = None) -> Any:
        self.count += 1
        parts = [*actions.values()] if isinstance(actions, dict) else [actions]
        total = sum((part.float().reshape(self.num_envs, -1).sum(1) for part in parts), torch.tensor(0.0))
        for part in parts if self.writes == "actions" else ():
            part.zero_()
        shown = torch.stack([total, torch.full_like(total, self.count)], 1)
        reward = self._in("reward", total if self.count > 8 else torch.zeros_like(total))
        ends = (self.everywhere(self.count % 5 == 0), self.everywhere(False))
        final = {"final_obs": {"observation": shown}, "_final_obs": ends[0]} if self.count % 5 == 0 else {}
        final["steps in all"] = self.total.add_(1)  # which no agent reads
        return {"observation": self._in("observation", shown)}, reward, *ends, final

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        self.buffers["observation"].fill_(self.count)


envs.register("tests/Writing-v0", Writing)


def scenario(space: str, writes: str, period: int = 1) -> Scenario:
    player = {
        "acts": True,
        "observes": ["observation"],
        "objective": {"kind": "ppo", "epochs": 2},
        "clock": {"period": period, "unroll": 4},
        "network": {"hidden": [4]},
    }
    return Scenario(
        scenario="writing",
        env={"id": "tests/Writing-v0", "space": space, "writes": writes},
        agents={"player": player},
        training={"batch": 3, "steps": 16},
    )


def learned(space: str, writes: str, period: int = 1) -> Tensor:
    with Simulation(scenario(space, writes, period)) as simulation:
        simulation.run(progress=False)
        return torch.cat([value.flatten() for value in simulation.agents["player"].parameters.values()])


@pytest.mark.parametrize("space", SPACES)
def test_what_an_environment_writes_to_its_actions_is_not_learned_from(space: str) -> None:
    assert torch.equal(learned(space, "nothing"), learned(space, "actions"))


def test_an_action_that_holds_is_given_again_as_it_was_chosen() -> None:
    assert torch.equal(learned("choice", "nothing", period=2), learned("choice", "actions", period=2))


@pytest.mark.parametrize(
    ("writes", "name"), [("observation",) * 2, ("array", "observation"), ("reward",) * 2]
)
def test_what_an_environment_has_returned_it_must_not_change(writes: str, name: str) -> None:
    line = f"^env: Writing: step changes '{name}' in place, which it has returned and is read later; return a new tensor$"
    with pytest.raises(ScenarioError, match=line):
        learned("choice", writes)


def test_a_state_may_be_loaded_into_what_a_reset_has_returned() -> None:
    with Simulation(scenario("choice", "restored")) as simulation:
        simulation.run(steps=2, progress=False)
        with simulation.fork() as twin:
            twin.run(steps=3, progress=False)
            simulation.run(steps=3, progress=False)
            assert torch.equal(twin.signals["observation"], simulation.signals["observation"])
