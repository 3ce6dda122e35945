"""Environments of one's own by name: what their factories may be, in documents and in Python."""

from __future__ import annotations

import inspect
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from antiphon import Simulation, envs
from antiphon.envs import registry
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, Template
from tests.envs.adaptors.parallel_worlds import Mines


@pytest.fixture(autouse=True)
def own_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_environments", dict(registry._environments))


class Walk(gymnasium.Env[Any, int]):
    """A random walk along a line of some length."""

    action_space: gymnasium.Space[Any] = spaces.Discrete(2)

    def __init__(self, size: int = 3) -> None:
        self.size = size
        self.observation_space = spaces.Box(-size, size, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        self.at += int(self.np_random.integers(-1, 2)) if action else 1
        return np.full(1, self.at, np.float32), float(action), abs(self.at) >= self.size, False, {}


def walks(num_envs: int, size: int = 3) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Walk(size)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def source(size: int = 20) -> envs.Source:
    return envs.from_tensors(x=torch.arange(size * 2.0).reshape(size, 2), label=torch.arange(size) % 2)


FACTORIES: dict[str, Any] = {
    "class of one": Walk,
    "function of one": lambda size=3: Walk(size),
    "vector": walks,
    "source": source,
    "gymnasium's": lambda: gymnasium.make("CartPole-v1"),
    "parallel": lambda limit=4: Mines(limit=limit),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_of_any_kind_keeps_the_contract(name: str) -> None:
    envs.register(name, FACTORIES[name])
    assert name in envs.ids()
    spec = {"id": name}
    envs.check_vector_env(lambda: envs.make(spec, batch=3))
    description = envs.describe(spec)
    with closing(envs.make(spec, batch=5)) as env:
        assert (env.num_envs, env.description) == (5, description)
    if "size" in inspect.signature(FACTORIES[name]).parameters and name != "source":
        assert envs.describe({"id": name, "size": 7}).signals["observation"].high == 7


DOCUMENT = """
scenario: named
env: {id: own, size: 40}
agents:
  a: {observes: [x], objective: {kind: classification, target: label}}
training: {batch: 4, steps: 5}
"""


def test_a_document_names_it_and_is_trained_forked_saved_and_evaluated(tmp_path: Any) -> None:
    envs.register("own", source)
    scenario = Template.from_yaml(DOCUMENT).resolve()
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    with Simulation(scenario) as simulation:
        simulation.run()
        assert simulation.evaluate("test").examples == 8
        saved = simulation.save(tmp_path / "saved")
        simulation.fork().close()
    with Simulation.load(saved) as loaded:
        assert loaded.now == 5


def test_an_id_of_ones_own_is_replaced_and_one_of_antiphons_is_not() -> None:
    envs.register("again", lambda: Walk(3))
    envs.register("again", lambda: Walk(5))
    assert envs.describe({"id": "again"}).signals["observation"].high == 5
    with pytest.raises(ScenarioError, match="register: environment 'antiphon/Digits-v0' is antiphon's own"):
        envs.register("antiphon/Digits-v0", Walk)
