"""Counter-based random numbers: uniform, and functions of (seed, step, lane) alone."""

from __future__ import annotations

import torch

from antiphon.nets.random import generator, integers, seed_for, uniform


def test_numbers_are_uniform_over_lanes_and_over_steps() -> None:
    over_lanes = uniform(1, 0, 100_000)
    over_steps = torch.cat([uniform(1, step, 4) for step in range(5_000)])
    for numbers in (over_lanes, over_steps):
        assert numbers.dtype == torch.float64
        assert float(numbers.min()) >= 0
        assert float(numbers.max()) < 1
        expected = len(numbers) / 20
        chi_square = (torch.histc(numbers, 20, 0, 1) - expected).square().sum() / expected
        assert chi_square < 43.8, "19 degrees of freedom, p = 0.001"


def test_neighbours_are_uncorrelated() -> None:
    rows = torch.stack([uniform(7, step, 2_000) for step in range(50)]) - 0.5
    other = torch.stack([uniform(8, step, 2_000) for step in range(50)]) - 0.5
    pairs = [
        (rows[:, 1:], rows[:, :-1]),
        (rows[1:], rows[:-1]),
        (rows, other),
        (rows[1:, :-1], rows[:-1, 1:]),
    ]
    for a, b in pairs:
        assert abs(float((a * b).mean() * 12)) < 4 / a.numel() ** 0.5


def test_order_and_history_cannot_matter() -> None:
    forwards = [uniform(3, step, 8) for step in range(10)]
    backwards = [uniform(3, step, 8) for step in reversed(range(10))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert torch.equal(a, b)
    state = torch.get_rng_state()
    uniform(3, 0, 8)
    assert torch.equal(torch.get_rng_state(), state)


def test_more_lanes_leave_the_first_ones_alone() -> None:
    assert torch.equal(uniform(3, 5, 100)[:7], uniform(3, 5, 7))
    assert torch.equal(integers(3, 5, 100, 10)[:7], integers(3, 5, 7, 10))
    assert uniform(3, 5, 0).shape == (0,)


def test_integers_cover_their_range_evenly() -> None:
    drawn = integers(2, 0, 30_000, 3)
    assert drawn.dtype == torch.int64
    assert (torch.bincount(drawn, minlength=3) - 10_000).abs().max() < 400
    assert torch.equal(integers(2, 0, 5, 1), torch.zeros(5, dtype=torch.int64))


def test_large_seeds_and_steps_stay_in_range() -> None:
    for seed in (0, 2**63 - 1, seed_for(0, "x")):
        numbers = uniform(seed, 2**40, 1_000)
        assert 0.4 < float(numbers.mean()) < 0.6


def test_the_device_is_the_callers_choice() -> None:
    assert uniform(0, 0, 3, "meta").device.type == "meta"
    assert integers(0, 0, 3, 5, torch.device("cpu")).device.type == "cpu"


def test_seeds_follow_names() -> None:
    assert seed_for(0, "agent", "left") == seed_for(0, "agent", "left")
    different = [
        seed_for(0, "a", "b"),
        seed_for(1, "a", "b"),
        seed_for(0, "b", "a"),
        seed_for(0, "ab"),
        seed_for(0),
    ]
    assert len(set(different)) == len(different)
    assert all(0 <= seed < 2**63 for seed in different)
    first = torch.rand(3, generator=generator(0, "a"))
    assert torch.equal(first, torch.rand(3, generator=generator(0, "a")))
    assert not torch.equal(first, torch.rand(3, generator=generator(0, "b")))
