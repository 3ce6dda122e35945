"""The door of optimisers: what a user hands over keeps the meaning that it has in a plain loop."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import antiphon
from tests.reference.backend import Chosen, reference

STEPS = 16
DECAYING = {"lr": 0.05, "weight_decay": 0.1}
SETTINGS = {"sgd": {"lr": 0.05, "momentum": 0.9}, "AdamW": DECAYING}
"""Adam and AdamW of antiphon count the steps of all parameters as one (rule 7)."""


class Experts(nn.Module):
    """Each batch goes to one of three experts; `spare` is used by none."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(6, 8) for _ in range(3))
        self.spare = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        expert: Tensor = self.experts[int(x.abs().sum() * 100) % 3](x)
        return expert


@pytest.fixture(scope="module")
def env() -> Any:
    torch.manual_seed(0)
    env = antiphon.envs.from_tensors(x=torch.randn(120, 6), label=torch.randint(3, (120,)))
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    scenario = antiphon.split(model, at=[2], env=env, coupling="locked", batch=8, steps=2)
    with antiphon.Simulation(
        scenario
    ) as run:  # loads the modules of torch that the first of the tests would load
        run.run(progress=False)
    return env


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_a_parameter_without_a_gradient_stays(env: Any, kind: str, backend: Chosen, tmp_path: Path) -> None:
    """Also where the run is saved and goes on."""
    settings = SETTINGS[kind]
    torch.manual_seed(1)
    model = nn.Sequential(Experts(), nn.Tanh(), nn.Linear(8, 3)).double()
    loop = copy.deepcopy(model)
    optimiser = getattr(torch.optim, {"sgd": "SGD"}.get(kind, kind))(loop.parameters(), **settings)
    scenario = antiphon.split(
        model, at=[2], env=env, coupling="locked", batch=8, steps=STEPS, optimiser={"kind": kind, **settings}
    )
    run = antiphon.Simulation(scenario, dtype=torch.float64, backend=backend)
    for step in range(STEPS):
        if step == STEPS // 2:
            run = antiphon.Simulation.load(run.save(tmp_path / "half"), scenario=scenario, backend=backend)
        batch = {name: value.clone() for name, value in run.signals.items()}
        run.step()
        optimiser.zero_grad()
        cross_entropy(loop(batch["x"]), batch["label"]).backward()
        optimiser.step()
    for ours, plain in zip(antiphon.join(run).parameters(), loop.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)


def scenario_of(env: Any, optimiser: dict[str, Any], network: nn.Module | None = None) -> antiphon.Scenario:
    agent = {
        "observes": ["x"],
        "network": nn.Linear(6, 3, dtype=torch.float64) if network is None else network,
        "objective": {"kind": "classification", "target": "label"},
        "optimiser": optimiser,
    }
    training = {"batch": 8, "steps": STEPS}
    return antiphon.Scenario(scenario="one", env=env, agents={"a": agent}, training=training)


OF_TORCH = [
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    if name not in {"Optimizer", "LBFGS", "SparseAdam"}
]


@pytest.mark.parametrize("kind", OF_TORCH)
def test_each_optimiser_steps_as_in_a_loop(env: Any, kind: str) -> None:
    """Muon takes the weights alone, which have two axes."""
    network = nn.Linear(6, 3, bias=kind != "Muon", dtype=torch.float64)
    loop = copy.deepcopy(network)
    scenario = scenario_of(env, {"kind": kind, "lr": 0.05}, network)
    optimiser = getattr(torch.optim, kind)(loop.parameters(), lr=0.05)
    with antiphon.Simulation(scenario, dtype=torch.float64) as run:
        loop.load_state_dict(
            {name.removeprefix("module."): p for name, p in run.agents["a"].parameters.items()}
        )
        for _ in range(5):
            batch = {name: value.clone() for name, value in run.signals.items()}
            run.step()
            optimiser.zero_grad()
            cross_entropy(loop(batch["x"]), batch["label"]).backward()
            optimiser.step()
        for ours, plain in zip(run.agents["a"].parameters.values(), loop.parameters(), strict=True):
            torch.testing.assert_close(ours, plain.detach(), rtol=0, atol=1e-12)
