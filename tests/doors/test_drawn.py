"""What users' code draws in a run is a function of the run's seed, and the caller's generators are left alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import random, sample, seed
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import antiphon
from tests.kit.tiers import sampled

DRAWN: dict[str, Callable[[int], Tensor]] = {
    "torch": torch.rand,
    "numpy": lambda count: torch.tensor(np.random.rand(count), dtype=torch.float32),
    "python": lambda count: torch.tensor([random() for _ in range(count)]),
}


class Late:
    """Numbers that are drawn from a call on only: before it, ones."""

    drawing = False

    def __call__(self, count: int) -> Tensor:
        return DRAWN["numpy"](count) if self.drawing else torch.ones(count)


LATE = Late()

SOURCES: dict[str, Callable[[int], Tensor]] = {**DRAWN, "late": LATE}
SHUFFLED: dict[str, Callable[[int], Any]] = {
    "torch": torch.randperm,
    "numpy": np.random.permutation,
    "python": lambda count: sample(range(count), count),
}


class Noise(torch.autograd.Function):
    """Adds what is drawn to its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        ctx.kind = kind
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] + 0.1 * SOURCES[ctx.kind](1), None


class Noisy(nn.Module):
    """A linear map with noise where it is asked for: initially, forward, backward, or on gradients."""

    def __init__(self, inputs: int, outputs: int, where: str, kind: str) -> None:
        super().__init__()
        self.map, self.where, self.kind = nn.Linear(inputs, outputs), where, kind
        weight = self.map.weight
        if where == "factory":
            weight.data.mul_(SOURCES[kind](1))
        if where == "hook":
            weight.register_hook(lambda gradient: gradient + 0.1 * SOURCES[kind](1))
        if where == "last hook":
            weight.register_post_accumulate_grad_hook(partial(self._changed, kind))

    @staticmethod
    def _changed(kind: str, p: Tensor) -> None:
        assert p.grad is not None
        p.grad.add_(0.1 * SOURCES[kind](1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.map(x)
        if self.where == "forward" and self.training:
            return y * SOURCES[self.kind](1)
        return Noise.apply(y, self.kind) if self.where == "backward" else y  # type: ignore[no-any-return, no-untyped-call]


class Langevin(torch.optim.Optimizer):
    """Adds noise to each step."""

    def __init__(self, parameters: Any, lr: float, drawn: str) -> None:
        super().__init__(parameters, {"lr": lr})
        self.drawn = drawn

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * (p.grad + 0.1 * SOURCES[self.drawn](1)))


class Masked(nn.Linear):
    """A predictor with a loss of random components."""

    def __init__(self, inputs: int, outputs: int, drawn: str) -> None:
        super().__init__(inputs, outputs)
        self.drawn = drawn

    def loss(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return ((prediction - truth) * SOURCES[self.drawn](prediction.shape[1])).square().sum(1)


def contrasted(kind: str, output: Tensor, target: Tensor) -> Tensor:
    """A loss of each sample and of another one, as it comes."""
    losses = nn.functional.cross_entropy(output, target, reduction="none")
    if kind not in SHUFFLED:
        return losses * SOURCES[kind](1)
    others = torch.as_tensor(SHUFFLED[kind](len(target)))
    return losses + nn.functional.cross_entropy(output, target[others], reduction="none")


def drawing(where: str, kind: str, others: tuple[str, ...] = ()) -> antiphon.Scenario:
    """Agents of which each draws: in its network, loss or optimiser, or where the first one's gradient is predicted."""
    goal: Any = {"kind": "classification", "target": "label"}
    agent: dict[str, Any] = {"clock": {"unroll": 2}, "network": partial(Noisy, where=where, kind=kind)}
    if where == "loss":
        goal["kind"] = partial(contrasted, kind)
    if where == "optimiser":
        agent["optimiser"] = {"kind": partial(Langevin, drawn=kind), "lr": 0.05}
    agents = {name: {**agent, "observes": ["image"], "objective": goal} for name in ("mind", *others)}
    channels: list[Any] = []
    if where == "predictor":
        agents["eye"] = {"observes": ["image"], "clock": {"unroll": 2}}
        gradient = {"kind": partial(Masked, drawn=kind), "context": ["label"]}
        channels = [{"from": "eye", "to": "mind", "size": 3, "gradient": gradient}]
    return antiphon.Scenario(
        scenario="drawing",
        env={"id": "antiphon/Digits-v0"},
        agents=agents,
        channels=channels,
        training={"batch": 8, "steps": 9},
    )


def numbers_of(simulation: antiphon.Simulation) -> list[Tensor]:
    agents = [agent for name, agent in simulation.agents.items() if name in ("mind", "eye")]
    return [value.clone() for agent in agents for value in agent.parameters.values()]


@pytest.mark.parametrize(
    ("where", "kind"),
    sampled(
        itertools.product(
            ["factory", "forward", "backward", "hook", "last hook", "loss", "optimiser", "predictor"], DRAWN
        ),
        often=2,
    ),
)
def test_what_users_code_draws_is_of_the_runs_seed(where: str, kind: str, tmp_path: Path) -> None:
    scenario = drawing(where, kind)

    def run(steps: int, caller: int) -> antiphon.Simulation:
        seed(caller)
        np.random.seed(caller)
        torch.manual_seed(caller)
        simulation = antiphon.Simulation(scenario, seed=4)
        simulation.run(steps=steps, progress=False)
        return simulation

    expected = numbers_of(run(9, 0))
    half = run(5, 1)
    drawn = [DRAWN[name](2) for name in DRAWN]
    seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert all(torch.equal(one, DRAWN[name](2)) for one, name in zip(drawn, DRAWN, strict=True)), "his own"
    twin = half.fork()
    half.save(tmp_path / "checkpoint")
    loaded = antiphon.Simulation.load(tmp_path / "checkpoint", scenario=scenario)
    half.evaluate("test")
    for simulation in (half, twin, loaded):
        simulation.run(steps=4, progress=False)
        assert all(torch.equal(a, b) for a, b in zip(numbers_of(simulation), expected, strict=True))
    other = antiphon.Simulation(scenario, seed=5)
    other.run(steps=9, progress=False)
    assert not torch.equal(numbers_of(other)[0], expected[0])


@pytest.mark.parametrize("where", ["forward", "backward", "loss"])
def test_what_an_agent_draws_is_its_own_beside_another(where: str) -> None:
    found = []
    for others in ((), ("other",)):
        with antiphon.Simulation(drawing(where, "numpy", others)) as simulation:
            simulation.run(steps=9, progress=False)
            found.append(numbers_of(simulation))
    assert all(torch.allclose(a, b, 0, 1e-6) for a, b in zip(*found, strict=True))
