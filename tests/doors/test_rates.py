"""Learning rates that a user's optimiser changes itself, against a loop by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import antiphon
from tests.reference.backend import Chosen, reference

STEPS = 8


class Halving(torch.optim.SGD):
    """Halves the rate of its weights after each step, as optimisers with a warm-up or a search of their own change theirs."""

    def __init__(self, params: Any, lr: float) -> None:
        weights, biases = ([p for p in [*params] if (p.dim() > 1) is wide] for wide in (True, False))
        super().__init__([{"params": weights, "lr": lr}, {"params": biases, "lr": lr / 4}], lr=lr)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        self.param_groups[0]["lr"] *= 0.5


def fading(step: int) -> float:
    return 1 - step / 20


@pytest.fixture(scope="module")
def env() -> Any:
    torch.manual_seed(0)
    return antiphon.envs.from_tensors(
        x=torch.randn(60, 6, dtype=torch.float64), label=torch.randint(3, (60,))
    )


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def farthest(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


@pytest.mark.cases(1)
@pytest.mark.parametrize(("backend", "scheduled"), [("cohort", False), ("cohort", True), (reference, True)])
def test_a_rate_that_an_optimiser_changes_stays_changed(
    env: Any, backend: Chosen, scheduled: bool, tmp_path: Path
) -> None:
    """Multiplied by the schedule, in the other groups as before; also where the run is saved and goes on."""
    schedule = {"schedule": {"kind": fading}} if scheduled else {}
    scenario = antiphon.split(
        model(),
        at=[2],
        env=env,
        coupling="locked",
        batch=8,
        steps=STEPS,
        optimiser={"kind": Halving, "lr": 0.5, **schedule},
    )
    loop: nn.Module = model()
    weights = [p for p in loop.parameters() if p.dim() > 1]
    run = antiphon.Simulation(scenario, dtype=torch.float64, backend=backend)
    for step in range(STEPS):
        if step == STEPS // 2:
            run.save(tmp_path / "saved")
            run.close()
            run = antiphon.Simulation.load(tmp_path / "saved", scenario=scenario)
        batch: dict[str, Tensor] = {name: value.clone() for name, value in run.signals.items()}
        run.step()
        loop.zero_grad()
        cross_entropy(loop(batch["x"]), batch["label"]).backward()
        rate = 0.5 * (fading(step) if scheduled else 1)
        with torch.no_grad():
            for p in loop.parameters():
                assert p.grad is not None
                p -= (rate * 0.5**step if any(p is w for w in weights) else rate / 4) * p.grad
    assert farthest(antiphon.join(run), loop) < 1e-12
    run.close()
