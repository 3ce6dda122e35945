"""What users' code draws in a run follows from the run's seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import random, sample, seed
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn

import antiphon
from antiphon import envs
from antiphon.envs import Description, Signal

DRAWN: dict[str, Callable[[int], Tensor]] = {
    "torch": torch.rand,
    "numpy": lambda count: torch.tensor(np.random.rand(count), dtype=torch.float32),
    "python": lambda count: torch.tensor([random() for _ in range(count)]),
}


SHUFFLED: dict[str, Callable[[int], Any]] = {
    "torch": torch.randperm,
    "numpy": np.random.permutation,
    "python": lambda count: sample(range(count), count),
}


class Noisy(nn.Module):
    """A linear map with noise where it is asked for: initially, or forward."""

    def __init__(self, inputs: int, outputs: int, where: str, kind: str) -> None:
        super().__init__()
        self.map, self.where, self.kind = nn.Linear(inputs, outputs), where, kind
        weight = self.map.weight
        if where == "factory":
            weight.data.mul_(DRAWN[kind](1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.map(x)
        if self.where == "forward" and self.training:
            return y * DRAWN[self.kind](1)
        return y


class Langevin(torch.optim.Optimizer):
    """Adds noise to each step."""

    def __init__(self, parameters: Any, lr: float, drawn: str) -> None:
        super().__init__(parameters, {"lr": lr})
        self.drawn = drawn

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * (p.grad + 0.1 * DRAWN[self.drawn](1)))


def contrasted(kind: str, output: Tensor, target: Tensor) -> Tensor:
    """A loss of each sample and of another one, as it comes."""
    losses = nn.functional.cross_entropy(output, target, reduction="none")
    if kind not in SHUFFLED:
        return losses * DRAWN[kind](1)
    others = torch.as_tensor(SHUFFLED[kind](len(target)))
    return losses + nn.functional.cross_entropy(output, target[others], reduction="none")


def drawing(where: str, kind: str, others: tuple[str, ...] = ()) -> antiphon.Scenario:
    """Agents of which each draws: in its network, loss or optimiser."""
    goal: Any = {"kind": "classification", "target": "label"}
    agent: dict[str, Any] = {"clock": {"unroll": 2}, "network": partial(Noisy, where=where, kind=kind)}
    if where == "loss":
        goal["kind"] = partial(contrasted, kind)
    if where == "optimiser":
        agent["optimiser"] = {"kind": partial(Langevin, drawn=kind), "lr": 0.05}
    agents = {name: {**agent, "observes": ["image"], "objective": goal} for name in ("mind", *others)}
    return antiphon.Scenario(
        scenario="drawing",
        env={"id": "antiphon/Digits-v0"},
        agents=agents,
        training={"batch": 8, "steps": 9},
    )


def seed_all(number: int) -> None:
    seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def numbers_of(simulation: antiphon.Simulation) -> list[Tensor]:
    return [value.clone() for value in simulation.agents["mind"].parameters.values()]


@pytest.mark.parametrize("where", ["factory", "forward", "loss", "optimiser"])
@pytest.mark.parametrize("kind", DRAWN)
def test_what_users_code_draws_is_of_the_runs_seed(where: str, kind: str, tmp_path: Path) -> None:
    scenario = drawing(where, kind)

    def run(steps: int, caller: int) -> antiphon.Simulation:
        seed_all(caller)
        simulation = antiphon.Simulation(scenario, seed=4)
        simulation.run(steps=steps, progress=False)
        return simulation

    expected = numbers_of(run(9, 0))
    half = run(4, 1)  # between windows: a replay draws again
    half.save(tmp_path / "checkpoint")
    DRAWN[kind](2)
    loaded = antiphon.Simulation.load(tmp_path / "checkpoint", scenario=scenario)
    loaded.run(steps=5, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(numbers_of(loaded), expected, strict=True))
    other = antiphon.Simulation(scenario, seed=5)
    other.run(steps=9, progress=False)
    assert not torch.equal(numbers_of(other)[0], expected[0])


def test_runs_of_one_seed_have_the_same_checkpoint_whatever_was_drawn_before(tmp_path: Path) -> None:
    states = []
    for caller in (0, 1):
        seed_all(caller)
        with antiphon.Simulation(drawing("forward", "torch"), seed=4) as simulation:
            simulation.run(steps=4, progress=False)
            simulation.save(tmp_path / str(caller))
        states.append((tmp_path / str(caller) / "state.safetensors").read_bytes())
    assert states[0] == states[1]


@pytest.mark.parametrize("where", ["forward", "loss", "optimiser"])
def test_what_is_drawn_from_torch_is_a_function_of_the_step(where: str) -> None:
    """A fork and an evaluation change nothing, nor does whoever else draws."""
    scenario = drawing(where, "torch")
    with antiphon.Simulation(scenario) as simulation:
        simulation.run(steps=9, progress=False)
        expected = numbers_of(simulation)
    with antiphon.Simulation(scenario) as simulation:
        simulation.run(steps=5, progress=False)
        torch.rand(3)
        after = torch.get_rng_state()
        twin = simulation.fork()
        simulation.evaluate("test")
        for one in (simulation, twin):
            one.run(steps=4, progress=False)
            assert all(torch.equal(a, b) for a, b in zip(numbers_of(one), expected, strict=True))
        assert torch.equal(torch.get_rng_state(), after), "restored"


@pytest.mark.parametrize("where", ["forward", "loss"])
def test_what_an_agent_draws_is_its_own_beside_another(where: str) -> None:
    found = []
    for others in ((), ("other",)):
        with antiphon.Simulation(drawing(where, "torch", others)) as simulation:
            simulation.run(steps=9, progress=False)
            found.append(numbers_of(simulation))
    assert all(torch.allclose(a, b, 0, 1e-6) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("kind", DRAWN)
def test_a_layer_that_draws_is_split(kind: str) -> None:
    model = nn.Sequential(nn.Flatten(), Noisy(64, 8, "forward", kind), nn.ReLU(), nn.Linear(8, 10))
    scenario = antiphon.split(model, at=[2], env={"id": "antiphon/Digits-v0"}, gradient="local")
    assert list(scenario.agents) == ["part0", "part1"]


# --- environments ----------------------------------------------------------------------------------------


class Vector(envs.TorchVectorEnv):
    """Places that are drawn, in a vector environment of one's own, with a count as its state."""

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


envs.register("drawn/Vector-v0", Vector)


@pytest.mark.parametrize("kind", DRAWN)
def test_what_an_environment_draws_is_of_the_runs_seed(kind: str, tmp_path: Path) -> None:
    agent = {"acts": True, "observes": ["place"], "objective": "a2c", "clock": {"unroll": 2}}
    scenario = antiphon.Scenario(
        scenario="drawn",
        env={"id": "drawn/Vector-v0", "kind": kind},
        agents={"mind": agent},
        training={"batch": 3, "steps": 90},
    )

    def run(steps: int, caller: int, own: int = 4) -> antiphon.Simulation:
        seed_all(caller)
        simulation = antiphon.Simulation(scenario, seed=own)
        simulation.run(steps=steps, progress=False)
        return simulation

    whole = run(12, 0)
    half = run(6, 1)
    half.save(tmp_path / "checkpoint")
    loaded = antiphon.Simulation.load(tmp_path / "checkpoint", scenario=scenario)
    for simulation in (half, half.fork(), loaded):
        seed_all(7)
        simulation.run(steps=6, progress=False)
        assert torch.equal(simulation.signals["place"], whole.signals["place"])
        assert all(torch.equal(a, b) for a, b in zip(numbers_of(simulation), numbers_of(whole), strict=True))
    assert not torch.equal(run(12, 0, 5).signals["place"], whole.signals["place"])
