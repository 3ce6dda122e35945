"""The benchmark of rivals: what its asynchronous pipeline computes, and the step times of the ways that wait."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import rivals


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(150, 6, generator=generator), torch.randint(10, (150,), generator=generator)


def test_one_minibatch_in_flight_is_backpropagation_with_adam(data: tuple[Tensor, Tensor]) -> None:
    pipeline = rivals.Pipeline(2, 1.0, 1, data, seed=0)
    first, last = pipeline.layers
    width = rivals.WIDTH
    model = nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))
    model.extend([nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, rivals.CLASSES)])
    for own, value in zip(model.parameters(), [*first.tensors, *last.tensors], strict=True):
        own.data.copy_(value.detach())
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(model.parameters(), lr=rivals.RATE)
    steps = 5
    pipeline.run(steps * rivals.step_time("locked", 2, 1.0) - 0.5)
    for _ in range(steps):
        chosen = torch.randint(150, (rivals.BATCH,), generator=generator)
        loss = F.cross_entropy(model(data[0][chosen]), data[1][chosen])
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert (first.updates, last.updates) == (steps - 1, steps)  # the last gradient is on its way back
    pipeline.run(pipeline.now + 1)
    pairs = list(zip([*first.tensors, *last.tensors], model.parameters(), strict=True))
    for index in set(range(10)) - {1, 5}:  # a bias in front of batch norm learns from rounding alone
        torch.testing.assert_close(*pairs[index], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("way", "time"),
    [
        ("one machine", 4),
        ("locked", 4 + 6 * 5),
        ("1f1b", 35 / 32 + 6 * 5),
        ("data parallel", 1 + 5),
        ("ring", 1 + 6 * 5),
    ],
)
def test_step_times_of_ways_that_wait(way: str, time: float) -> None:
    assert rivals.step_time(way, 4, 5.0) == pytest.approx(time)
