"""Seeds of a scenario that holds an environment object: each has one of its own."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario

STEPS = 7


class Walk(VectorEnv[Any, Any, Any]):
    """A random walk from a start that its seed chooses."""

    def __init__(self, count: int) -> None:
        self.num_envs = count
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = Box(-100.0, 100.0, (2,), np.float32)
        self.single_action_space = Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self.generator = np.random.default_rng(0)
        self.at = np.zeros((count, 2), np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.generator = np.random.default_rng(seed)
        self.at = self.generator.normal(size=(self.num_envs, 2)).astype(np.float32)
        return self.at.copy(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.at += self.generator.normal(size=self.at.shape).astype(np.float32)
        never = np.zeros(self.num_envs, bool)
        return self.at.copy(), self.at.sum(1), never, never, {}

    def state_dict(self) -> dict[str, Any]:
        return {"at": torch.from_numpy(self.at.copy()), "generator": repr(self.generator.bit_generator.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"].numpy().copy()
        self.generator.bit_generator.state = eval(state["generator"])


class Uncopied(Walk):
    """One that holds what cannot be copied."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.lock = threading.Lock()


def walking(env: Walk) -> Scenario:
    agents = {
        "a": {"observes": ["observation"], "network": {"kind": "mlp", "hidden": [5]}},
        "b": {
            "network": {"kind": "mlp", "hidden": [5]},
            "objective": {"kind": "regression", "target": "reward"},
        },
    }
    channels = [{"from": "a", "to": "b", "size": 3}]
    document = {"scenario": "walk", "env": env, "agents": agents, "channels": channels}
    return Scenario.model_validate({**document, "training": {"batch": 4, "steps": 50}})


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_each_seed_has_an_environment_of_its_own(backend: str) -> None:
    seeds = Seeds(walking(Walk(4)), [3, 4, 5], backend=backend, dtype=torch.float64)
    seeds.run(STEPS)
    for seed, simulation in zip([3, 4, 5], seeds.simulations, strict=True):
        alone = Simulation(walking(Walk(4)), seed=seed, backend="reference", dtype=torch.float64)
        alone.run(STEPS)
        ours, theirs = simulation.world.step_signals.signals, alone.world.step_signals.signals
        assert torch.equal(ours["observation"], theirs["observation"])
        for name, handle in alone.agents.items():
            for key, parameter in handle.parameters.items():
                assert torch.allclose(
                    simulation.agents[name].parameters[key], parameter, rtol=1e-9, atol=1e-12
                )


def test_an_environment_that_cannot_be_copied_is_refused() -> None:
    with pytest.raises(
        ScenarioError, match=r"^env: Uncopied cannot be copied \(.*lock.*\), and every seed"
    ) as caught:
        Seeds(walking(Uncopied(4)), [3, 4])
    assert "\n" not in str(caught.value)
    assert len(Seeds(walking(Uncopied(4)), [3]).simulations) == 1  # one seed needs one environment


def test_a_fork_of_one_that_cannot_be_copied_is_refused() -> None:
    simulation = Simulation(walking(Uncopied(4)))
    with pytest.raises(ScenarioError, match=r"^env: Uncopied cannot be copied"):
        simulation.fork()


def test_a_seed_that_diverges_keeps_the_environment_as_it_was() -> None:
    seeds = Seeds(walking(Walk(4)), [3, 4, 5])
    seeds.run(3)
    with torch.no_grad():
        for parameter in seeds.simulations[1].agents["b"].parameters.values():
            parameter.fill_(float("nan"))
    seeds.step()
    stopped = seeds.simulations[1]
    assert stopped.diverged is not None
    before = stopped.state_dict()["env"]["env"]["at"].clone()
    seeds.run(3)
    assert torch.equal(stopped.state_dict()["env"]["env"]["at"], before)
