"""Worlds that draw from the global generators of Python, numpy and torch, as many public ones do: they follow the run's seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv

import antiphon
from antiphon import Scenario, Simulation

DRAWS = {
    "numpy": lambda: float(np.random.normal()),
    "python": random.random,
    "torch": lambda: float(torch.rand(())),
}


class Bandit(gymnasium.Env[Any, Any]):
    """Episodes of two steps; an arm has its own payment, of when the world was made, and noise."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, draws: str = "numpy") -> None:
        self._draw = DRAWS[draws]
        self._arms = [self._draw() for _ in range(3)]

    def _shown(self) -> Any:
        return np.array([self._draw()], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._steps = 0
        return self._shown(), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        return self._shown(), self._arms[int(action)] + self._draw(), self._steps == 2, False, {}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]


class Bandits(ParallelEnv[str, Any, Any]):
    """The same for one agent of PettingZoo."""

    possible_agents = ("a",)
    metadata: ClassVar[dict[str, Any]] = {"name": "bandits"}

    def __init__(self, draws: str = "numpy") -> None:
        self._world = Bandit(draws)
        self.agents = ["a"]

    def observation_space(self, agent: str) -> Any:
        return self._world.observation_space

    def action_space(self, agent: str) -> Any:
        return self._world.action_space

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents = ["a"]
        return {"a": self._world.reset()[0]}, {"a": {}}

    def step(self, actions: Any) -> Any:
        shown, reward, over, cut, _ = self._world.step(actions["a"])
        self.agents = [] if over else ["a"]
        return {"a": shown}, {"a": reward}, {"a": over}, {"a": cut}, {"a": {}}

    def state_dict(self) -> dict[str, Any]:
        return {**self._world.state_dict(), "agents": list(self.agents)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._world.load_state_dict(state)
        self.agents = list(state["agents"])


antiphon.envs.register("tests/GlobalBandit-v0", Bandit)
antiphon.envs.register("tests/GlobalBandits-v0", Bandits)


def scenario(kind: str, **env: Any) -> Scenario:
    alone = kind == "Bandit"
    player = {
        "observes": ["observation" if alone else "a.observation"],
        "acts": True if alone else "a",
        "objective": {"kind": "a2c", "normalise": "none"},
        "clock": {"unroll": 4},
        "network": {"hidden": [4]},
    }
    return Scenario(
        scenario="bandit",
        env={"id": f"tests/Global{kind}-v0", **env},
        agents={"player": player},
        training={"batch": 2, "optimiser": {"kind": "sgd", "lr": 0.1}},
    )


def bits(simulation: Simulation) -> list[torch.Tensor]:
    """Its parameters, what it observes, and its newest return."""
    parameters = simulation.agents["player"].parameters.values()
    metrics = torch.tensor(simulation.world.metrics()["episode_return"])
    return [p.clone() for p in parameters] + [*simulation.signals.values(), metrics]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("kind", "env"),
    [
        ("Bandit", {}),
        ("Bandit", {"draws": "python"}),
        ("Bandits", {}),
        ("Bandits", {"draws": "torch"}),
    ],
)
def test_a_run_is_a_function_of_its_seed_and_draws_nothing_of_the_callers(
    kind: str, env: dict[str, Any]
) -> None:
    def run(seed: int, evaluations: int = 0) -> list[torch.Tensor]:
        with Simulation(scenario(kind, **env), seed=seed) as simulation:
            simulation.run(steps=41, progress=False)  # longer than its calls are tried
            for _ in range(evaluations):
                simulation.evaluate(episodes=1)
            simulation.run(steps=4, progress=False)
            return bits(simulation)

    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    first = run(3)
    drawn = [float(np.random.normal()), random.random(), float(torch.rand(()))]
    assert equal(first, run(3, evaluations=2))
    assert not equal(first, run(4))
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    assert drawn == [float(np.random.normal()), random.random(), float(torch.rand(()))]


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("kind", "draws", "steps"), [("Bandit", "numpy", 41), ("Bandits", "python", 41), ("Bandit", "torch", 5)]
)
def test_a_checkpoint_has_the_numbers(kind: str, draws: str, steps: int, tmp_path: Path) -> None:
    with Simulation(scenario(kind, draws=draws)) as whole:
        whole.run(steps=steps, progress=False)
        whole.save(tmp_path / "half")
        whole.run(steps=6, progress=False)
        wanted = bits(whole)
    with Simulation.load(tmp_path / "half") as rest:
        rest.run(steps=6, progress=False)
        assert equal(bits(rest), wanted)
