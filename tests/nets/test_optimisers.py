"""Optimisers against torch's, whatever the layout of a gradient, and schedules at their corners."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from antiphon.nets.optimisers import Optimiser
from antiphon.nets.schedules import CosineSchedule, LinearSchedule, Rate, Schedule, StepsSchedule
from tests.kit.tensors import DOUBLE

TORCHS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [("sgd", {}), ("sgd", {"momentum": 0.9}), ("adam", {}), ("adamw", {})],
)
def test_it_equals_torchs(kind: str, settings: dict[str, Any], weight_decay: float) -> None:
    g = torch.Generator().manual_seed(0)
    start = [torch.randn(4, 3, dtype=DOUBLE, generator=g), torch.randn(3, dtype=DOUBLE, generator=g)]
    mine = [p.clone() for p in start]
    theirs = [p.clone().requires_grad_() for p in start]
    own = Optimiser(kind, mine, weight_decay=weight_decay, **settings)
    reference = TORCHS[kind](theirs, lr=1.0, weight_decay=weight_decay, **settings)  # type: ignore[call-arg]
    for step in range(15):
        gradients = [torch.randn(p.shape, dtype=DOUBLE, generator=g) for p in start]
        rate = 0.05 / (1 + step)
        reference.param_groups[0]["lr"] = rate
        for p, gradient in zip(theirs, gradients, strict=True):
            p.grad = gradient
        reference.step()
        own.step(gradients, rate)
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q.data, atol=1e-12, rtol=0)


@pytest.mark.parametrize("clip", [2.0, 5.0, 7.0])
def test_a_gradient_is_clipped_as_torch_does_and_is_left_alone(clip: float) -> None:
    parameters = [torch.zeros(1, dtype=DOUBLE), torch.zeros(2, dtype=DOUBLE)]
    gradients = [torch.tensor([3.0], dtype=DOUBLE), torch.tensor([0.0, -4.0], dtype=DOUBLE)]
    Optimiser("sgd", parameters, clip=clip).step(gradients, 1.0)
    theirs = [nn.Parameter(torch.zeros_like(p)) for p in parameters]
    for p, g in zip(theirs, gradients, strict=True):
        p.grad = g.clone()
    nn.utils.clip_grad_norm_(theirs, clip)
    for p, q in zip(parameters, theirs, strict=True):
        assert q.grad is not None
        torch.testing.assert_close(p, -q.grad, rtol=0, atol=1e-15)
    assert gradients[0] == 3


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule(), {0: 1, 0.5: 1, 1: 1, 3: 1}),
        (
            StepsSchedule(at=(0.5, 0.8), scale=0.1),
            {0: 1, 0.49: 1, 0.5: 0.1, 0.79: 0.1, 0.8: 0.01, 1: 0.01, 9: 0.01},
        ),
        (LinearSchedule(scale=0.2), {0: 1, 0.5: 0.6, 1: 0.2, 2: 0.2}),
        (CosineSchedule(scale=0.2), {0: 1, 0.5: 0.6, 1: 0.2, 2: 0.2}),
        (CosineSchedule(scale=0.0), {0.25: 0.5 + math.sqrt(0.125)}),
        (Schedule(warmup=0.2), {0: 0, 0.1: 0.5, 0.2: 1, 1: 1}),
        (CosineSchedule(scale=0.0, warmup=0.5), {0.25: 0.5 * (0.5 + math.sqrt(0.125)), 1: 0}),
        (LinearSchedule(scale=0.0, warmup=0.5), {0.25: 0.5 * 0.75, 0.5: 0.5, 1: 0}),
    ],
)
def test_schedules_at_their_corners(schedule: Schedule, values: dict[float, float]) -> None:
    for progress, value in values.items():
        assert schedule(progress) == pytest.approx(value, abs=1e-12), progress


def test_a_rate_counts_steps_of_its_horizon_and_holds_beyond() -> None:
    rate = Rate(base=0.1, run_steps=200, schedule=StepsSchedule(at=(0.5,), scale=0.5))
    assert [rate(step) for step in (0, 99, 100, 200, 10**9)] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.05])
    assert Rate(base=0.1, run_steps=0)(5) == 0.1
