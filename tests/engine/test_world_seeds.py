"""The seeds that environments get: of every run, row and evaluation others, and such as every environment takes."""

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from pettingzoo import ParallelEnv

from antiphon import Population, Scenario, Simulation, envs
from antiphon.envs import Description, Signal, World
from antiphon.envs.signal import OUTCOMES

BATCH, LARGEST = 8, 2**31 - 2
BOX = spaces.Box(0, 2**16, (2,), np.float32)
SEEDS: list[int] = []
"""The seeds of rows, as they are reset."""


def shown(seed: int) -> Any:
    """Note a seed, and return it as two numbers that float32 holds."""
    np.random.RandomState(seed)  # takes no other
    SEEDS.append(seed)
    return np.array(divmod(seed, 2**16), np.float32)


class One(gymnasium.Env[Any, Any]):
    """A single environment whose observation is its seed."""

    observation_space, action_space = BOX, spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seen = self.seen if seed is None else shown(seed)
        return self.seen, {}

    def step(self, action: Any) -> Any:
        return self.seen, 1.0, True, False, {}


class Together(VectorEnv[Any, Any, Any]):
    """A vector environment of its own class, which adds the row to its seed."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int) -> None:
        self.num_envs, self.single_observation_space = num_envs, BOX
        self.single_action_space, self.action_space = spaces.Discrete(2), spaces.MultiDiscrete([2] * num_envs)
        self.ended = np.zeros(num_envs, bool)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        assert isinstance(seed, int)
        self.seen = np.stack([shown(seed + row) for row in range(self.num_envs)])
        return self.seen, {}

    def step(self, actions: Any) -> Any:
        self.ended = ~self.ended
        return self.seen, 1.0 * self.ended, self.ended, 0 * self.ended, {}


class Walk(ParallelEnv[str, Any, Any]):
    """A parallel environment whose agent observes its seed."""

    metadata = {"name": "walk"}  # noqa: RUF012
    possible_agents = agents = ["a"]  # noqa: RUF012

    def observation_space(self, agent: str) -> Any:
        return BOX

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.seen, self.agents = self.seen if seed is None else shown(seed), ["a"]
        return {"a": self.seen}, {"a": {}}

    def step(self, actions: Any) -> Any:
        self.agents = []
        return {"a": self.seen}, {"a": 1.0}, {"a": True}, {"a": False}, {"a": {}}

    def close(self) -> None: ...


class Ours(World):
    """A world that adds the row to the seed of a reset, beside what `World` samples."""

    @staticmethod
    def describe(options: Any) -> Description:
        signals = {"observation": Signal(shape=(2,)), **OUTCOMES}
        return Description(signals=signals, action_space=spaces.Discrete(2))

    def start(self, uniforms: Any) -> Any:
        return {"place": torch.zeros(self.num_envs, 2, dtype=self.dtype)}

    def transition(self, state: Any, actions: Any) -> Any:
        return state, torch.ones(self.num_envs), torch.ones(self.num_envs, dtype=torch.bool)

    def observe(self, state: Any) -> Any:
        return {"observation": state["place"]}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None
        shown(seed)
        return super().reset(seed=seed)


class Direct(Ours):
    """The same without a promise that its seed is hashed."""

    hashes_seed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None
        for row in range(1, self.num_envs):
            shown(seed + row)
        return super().reset(seed=seed)


for each in (One, Together, Walk, Ours, Direct):
    envs.register(f"seeds/{each.__name__}-v0", each)


def scenario(name: str, batch: int = BATCH, **env: Any) -> Scenario:
    part = (
        {"acts": "a", "observes": ["a.observation"]}
        if name == "Walk"
        else {"acts": True, "observes": ["observation"]}
    )
    agent = {**part, "objective": "a2c", "clock": {"unroll": 2}}
    return Scenario(
        scenario="seeds",
        env={"id": f"seeds/{name}-v0", **env},
        agents={"p": agent},
        training={"batch": batch, "steps": 4},
    )


def of_runs(name: str, seeds: Iterable[int]) -> list[list[int]]:
    """The seeds of rows: of the training of runs, and of their evaluation."""
    found = []
    for seed in seeds:
        SEEDS.clear()
        with Simulation(scenario(name), seed=seed) as simulation:
            found.append(list(SEEDS))
            simulation.run(steps=4, progress=False)
            SEEDS.clear()
            simulation.evaluate()
            found.append(list(SEEDS))
    return found


@pytest.mark.long
def test_rows_have_their_seeds_in_every_batch_process_and_population() -> None:
    """Of a run's environments in processes of their own, of a larger batch, and of a member of a population."""
    expected = of_runs("One", [3])[0]
    gymnasium.register("seeds/Apart-v0", entry_point=One)
    threes = {"id": "gymnasium/seeds/Apart-v0", "vectorization_mode": "async"}
    with (
        Simulation(scenario("One", **threes), seed=3) as apart,
        Simulation(scenario("One", 20), seed=3) as more,
    ):
        for simulation in (apart, more):
            high, low = simulation.signals["observation"][:BATCH].long().unbind(1)
            assert (2**16 * high + low).tolist() == expected
    SEEDS.clear()
    members = Population(scenario("One"), [2, 3])
    assert SEEDS[BATCH : 2 * BATCH] == expected
    members.close()
