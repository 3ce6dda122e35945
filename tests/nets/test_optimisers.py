"""Optimisers against torch's, whatever the layout of a gradient, and schedules at their corners."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.nets.optimisers import Optimiser, Rate, Schedule

DOUBLE = torch.float64
TORCHS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [("sgd", {}), ("sgd", {"momentum": 0.9}), ("adam", {}), ("adam", {"betas": (0.5, 0.9)}), ("adamw", {})],
)
def test_it_equals_torchs(kind: str, settings: dict[str, Any], weight_decay: float) -> None:
    g = torch.Generator().manual_seed(0)
    start = [torch.randn(4, 3, dtype=DOUBLE, generator=g), torch.randn(3, dtype=DOUBLE, generator=g)]
    mine = [p.clone() for p in start]
    theirs = [p.clone().requires_grad_() for p in start]
    own = Optimiser(kind, mine, weight_decay=weight_decay, **settings)
    reference = TORCHS[kind](theirs, lr=1.0, weight_decay=weight_decay, **settings)  # type: ignore[call-arg]
    for step in range(40):
        gradients = [torch.randn(p.shape, dtype=DOUBLE, generator=g) for p in start]
        rate = 0.05 / (1 + step)
        reference.param_groups[0]["lr"] = rate
        for p, gradient in zip(theirs, gradients, strict=True):
            p.grad = gradient
        reference.step()
        own.step(gradients, rate)
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q.data, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(
    ("parameter", "gradient"),
    [
        (torch.zeros(3, 4), torch.arange(12.0).view(4, 3).t() - 3),
        (torch.zeros(4, 3).t(), torch.arange(12.0).view(3, 4) - 3),
        (torch.zeros(5), torch.ones(()).expand(5)),
    ],
    ids=["transposed gradient", "transposed parameter", "expanded gradient"],
)
def test_memory_layout_does_not_matter(kind: str, parameter: Tensor, gradient: Tensor) -> None:
    plain, strided = torch.zeros(parameter.shape), parameter.clone()
    for p, g in ((plain, gradient.contiguous().clone()), (strided, gradient)):
        optimiser = Optimiser(kind, [p])
        for _ in range(3):
            optimiser.step([g], 0.1)
    assert torch.equal(plain, strided)


def test_state_is_data_and_starts_at_zero() -> None:
    p = torch.ones(3)
    assert Optimiser("sgd", [p]).state == {}
    assert list(Optimiser("sgd", [p], momentum=0.9).state) == ["momentum"]
    state = Optimiser("adam", [p]).state
    assert list(state) == ["mean", "square", "steps"]
    assert all(float(t.abs().sum()) == 0 for tensors in state.values() for t in tensors)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_without_parameters_a_step_does_nothing(kind: str) -> None:
    Optimiser(kind, []).step([], 0.1)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule(), {0: 1, 0.5: 1, 1: 1, 3: 1}),
        (
            Schedule(kind="steps", at=(0.5, 0.8), factor=0.1),
            {0: 1, 0.49: 1, 0.5: 0.1, 0.79: 0.1, 0.8: 0.01, 1: 0.01, 9: 0.01},
        ),
        (Schedule(kind="linear", factor=0.2), {0: 1, 0.5: 0.6, 1: 0.2, 2: 0.2}),
        (Schedule(kind="cosine", factor=0.2), {0: 1, 0.5: 0.6, 1: 0.2, 2: 0.2}),
        (Schedule(kind="cosine", factor=0.0), {0.25: 0.5 + math.sqrt(0.125)}),
        (Schedule(warmup=0.2), {0: 0, 0.1: 0.5, 0.2: 1, 1: 1}),
        (Schedule(kind="linear", factor=0.0, warmup=0.5), {0.25: 0.5 * 0.75, 0.5: 0.5, 1: 0}),
    ],
)
def test_schedules_at_their_corners(schedule: Schedule, values: dict[float, float]) -> None:
    for progress, value in values.items():
        assert schedule(progress) == pytest.approx(value, abs=1e-12), progress


def test_a_rate_counts_steps_of_its_horizon_and_holds_beyond() -> None:
    rate = Rate(base=0.1, horizon=200, schedule=Schedule(kind="steps", at=(0.5,), factor=0.5))
    assert [rate(step) for step in (0, 99, 100, 200, 10**9)] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.05])
    assert Rate(base=0.1, horizon=0)(5) == 0.1
