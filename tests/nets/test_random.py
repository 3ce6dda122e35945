"""Counter-based random numbers: uniform, and functions of (seed, step, lane) alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from antiphon.nets.random import (
    UniformSteps,
    generator,
    normal,
    seed_for,
    uniform,
    uniform_many,
)
from antiphon.nets.step_numbers import numbers_from


def test_numbers_are_uniform_over_lanes_and_over_steps() -> None:
    over_lanes = uniform(1, 0, 100_000)
    over_steps = torch.cat([uniform(1, step, 8) for step in range(2_500)])
    for numbers in (over_lanes, over_steps):
        assert numbers.dtype == torch.float64
        assert float(numbers.min()) >= 0
        assert float(numbers.max()) < 1
        expected = len(numbers) / 20
        chi_square = (torch.histc(numbers, 20, 0, 1) - expected).square().sum() / expected
        assert chi_square < 43.8, "19 degrees of freedom, p = 0.001"


def test_normal_numbers_have_the_moments_and_quantiles_of_a_normal_distribution() -> None:
    over_lanes = normal(1, 0, 100_000)
    over_steps = torch.cat([normal(2**63 - 1, 2**40 + step, 40) for step in range(1_000)])
    for numbers in (over_lanes, over_steps):
        assert numbers.dtype == torch.float64
        for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
            bound = 4 * (variance / len(numbers)) ** 0.5
            assert abs(float((numbers**power).mean()) - moment) < bound
        for quantile in (-3.0, -1.0, 0.0, 0.5, 2.0):
            share = float(torch.special.ndtr(torch.tensor(quantile)))
            bound = 4 * (share * (1 - share) / len(numbers)) ** 0.5
            assert abs(float((numbers < quantile).double().mean()) - share) < bound
        assert bool(numbers.isfinite().all())


@pytest.mark.parametrize(
    "draw", [lambda *at: (uniform(*at) - 0.5) * 12**0.5, normal], ids=["uniform", "normal"]
)
def test_neighbours_are_uncorrelated(draw: Callable[[int, int, int], Tensor]) -> None:
    rows = torch.stack([draw(7, step, 2_000) for step in range(50)])
    other = torch.stack([draw(8, step, 2_000) for step in range(50)])
    pairs = [
        (rows[:, 1:], rows[:, :-1]),
        (rows[1:], rows[:-1]),
        (rows, other),
        (rows[1:, :-1], rows[:-1, 1:]),
    ]
    for a, b in pairs:
        assert abs(float((a * b).mean())) < 4 / a.numel() ** 0.5


def test_seeds_follow_names() -> None:
    assert seed_for(0, "agent", "left") == seed_for(0, "agent", "left")
    different = [
        seed_for(0, "a", "b"),
        seed_for(0, "a", "c"),
        seed_for(1, "a", "b"),
        seed_for(0, "b", "a"),
        seed_for(0, "c", "b"),
        seed_for(0, "ab"),
        seed_for(0),
    ]
    assert len(set(different)) == len(different)
    assert all(0 <= seed < 2**63 for seed in different)
    first = torch.rand(3, generator=generator(0, "a"))
    assert torch.equal(first, torch.rand(3, generator=generator(0, "a")))
    assert not torch.equal(first, torch.rand(3, generator=generator(0, "b")))


def test_numbers_of_steps_are_the_bits_of_each_step_in_any_order() -> None:
    seeds = [0, 2**63 - 1, seed_for(0, "a")]
    numbers = UniformSteps(seeds, torch.device("cpu"))
    for step, count in [
        (0, 7),
        (1, 7),
        (1, 8),
        (1365, 1),
        (5, 7),
        (2**40, 64),
        (3, 5000),
        (4, 5000),
        (-1, 2),
    ]:
        expected = uniform_many(torch.tensor(seeds), step, count)
        assert torch.equal(numbers.at(step, count), expected)
        with numbers_from(lambda function, at, dtype: torch.tensor(function(at), dtype=dtype)):
            assert torch.equal(numbers.at(step, count), expected)
