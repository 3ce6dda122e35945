"""Environments of a user's classes that draw from the generators of torch, numpy or Python: of their seed, and of no other's."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from antiphon import Scenario, Simulation, envs
from antiphon.envs import Description, Signal
from tests.kit.tiers import sampled

DRAWN: dict[str, Callable[[int], Tensor]] = {
    "torch": lambda count: torch.rand(count),
    "numpy": lambda count: torch.tensor(np.random.rand(count), dtype=torch.float32),
    "python": lambda count: torch.tensor([random.random() for _ in range(count)]),
}


class Windy(envs.World):
    """A place that the wind moves, and its start, its observation or its outcome, from a step on."""

    class Options(envs.World.Options):
        kind: str = "torch"
        where: str = "transition"
        since: int = 0

    @staticmethod
    def describe(options: Any) -> Description:
        late = Signal(training_only=True, known="after_step")
        return Description(signals={"place": Signal(), "late": late}, action_space=Discrete(2))

    def __init__(self, num_envs: int, options: Any, **settings: Any) -> None:
        super().__init__(num_envs, options, **settings)
        self.options = options

    def wind(self, where: str, steps: Tensor) -> Tensor:
        if where == self.options.where and bool((steps >= self.options.since).any()):
            return DRAWN[self.options.kind](self.num_envs)
        return torch.zeros(self.num_envs)

    def start(self, uniforms: Tensor) -> Any:
        zeros = torch.zeros(self.num_envs)
        return {"place": zeros + self.wind("start", zeros), "steps": zeros}

    def transition(self, state: Any, actions: Any) -> Any:
        place = state["place"] + actions["action"] + self.wind("transition", state["steps"])
        return {"place": place, "steps": state["steps"] + 1}, place, place < 0

    def observe(self, state: Any) -> Any:
        return {"place": state["place"] + self.wind("observe", state["steps"])}

    def outcomes(self, state: Any) -> Any:
        return {"late": state["place"] + self.wind("outcomes", state["steps"])}


class Vector(envs.TorchVectorEnv):
    """The same in a vector environment of one's own, with a count as its state."""

    def __init__(
        self, num_envs: int, kind: str, device: Any = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        description = Description(signals={"place": Signal()}, action_space=Discrete(2))
        super().__init__(num_envs, description, Discrete(2), device=device, dtype=dtype)
        self.kind, self.count = kind, 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.count = 0
        return {"place": DRAWN[self.kind](self.num_envs)}, {}

    def step(self, actions: Any = None) -> Any:
        self.count += 1
        place, never = DRAWN[self.kind](self.num_envs) + self.count, self.everywhere(False)
        return {"place": place}, place, never, never, {}

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Any) -> None:
        self.count = state["count"]


envs.register("drawn/Windy-v0", Windy)
envs.register("drawn/Vector-v0", Vector)


def scenario(**env: Any) -> Scenario:
    agent = {"acts": True, "observes": ["place"], "objective": "a2c", "clock": {"unroll": 2}}
    return Scenario(
        scenario="drawn",
        env={"id": "drawn/Windy-v0", **env},
        agents={"p": agent},
        training={"batch": 3, "steps": 90},
    )


def numbers_of(simulation: Simulation) -> list[Tensor]:
    return [value.clone() for value in simulation.agents["p"].parameters.values()]


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


CASES: list[dict[str, Any]] = [
    *({"where": where, "limit": 5} for where in ("start", "transition", "observe")),
    *({"kind": kind, "limit": 5} for kind in ("numpy", "python")),
    {"since": 35},
    *({"id": "drawn/Vector-v0", "kind": kind} for kind in DRAWN),
]


@pytest.mark.parametrize("env", sampled(CASES, often=3), ids=lambda env: "-".join(map(str, env.values())))
def test_what_an_environment_draws_is_of_the_runs_seed(env: dict[str, Any], tmp_path: Path) -> None:
    steps = 50 if "since" in env else 12

    def run(count: int, caller: int, seed: int = 4) -> Simulation:
        seed_all(caller)
        simulation = Simulation(scenario(**env), seed=seed)
        simulation.run(steps=count, progress=False)
        return simulation

    whole = run(steps, 0)
    expected = numbers_of(whole), whole.signals["place"].clone()
    half = run(steps // 2, 1)
    twin = half.fork()
    half.save(tmp_path / "checkpoint")
    loaded = Simulation.load(tmp_path / "checkpoint", scenario=half.scenario)
    for simulation in (half, twin, loaded):
        seed_all(7)
        simulation.run(steps=steps - steps // 2, progress=False)
        assert torch.equal(simulation.signals["place"], expected[1])
        assert all(torch.equal(a, b) for a, b in zip(numbers_of(simulation), expected[0], strict=True))
    assert not torch.equal(run(steps, 0, 5).signals["place"], expected[1])
