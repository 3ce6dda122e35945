"""Counter-based draws for many seeds at once: the bits of one seed at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from antiphon.nets.random import normal, normal_many, seed_for, uniform, uniform_many
from tests.tensors import Counter

SEEDS = [0, 1, 2**63 - 1, 2**62, 12345, *(seed_for(0, str(i)) for i in range(11))]
PAIRS = {"uniform": (uniform_many, uniform), "normal": (normal_many, normal)}
each_pair = pytest.mark.parametrize(("many", "one"), PAIRS.values(), ids=PAIRS)

Many = Callable[[Tensor, int, int], Tensor]
One = Callable[[int, int, int], Tensor]


@each_pair
@pytest.mark.parametrize("step", [0, 1, 1000, 2**40, 2**62, -1])
@pytest.mark.parametrize("lanes", [0, 1, 7, 64])
def test_many_seeds_draw_the_bits_of_each(many: Many, one: One, step: int, lanes: int) -> None:
    drawn = many(torch.tensor(SEEDS), step, lanes)
    assert drawn.shape == (len(SEEDS), lanes)
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn, torch.stack([one(seed, step, lanes) for seed in SEEDS]))


@each_pair
def test_one_seed_and_none_are_many_too(many: Many, one: One) -> None:
    assert torch.equal(many(torch.tensor([7]), 3, 5)[0], one(7, 3, 5))
    assert many(torch.empty(0, dtype=torch.int64), 3, 5).shape == (0, 5)


@each_pair
def test_it_draws_with_as_many_operations_for_many_as_for_few(many: Many, one: One) -> None:
    counts = []
    for seeds in (2, 64):
        with Counter() as counter:
            many(torch.arange(seeds), 5, 8)
        counts.append(counter.count)
    assert counts[0] == counts[1]


@each_pair
def test_it_leaves_the_seeds_and_the_global_state_alone(many: Many, one: One) -> None:
    seeds, state = torch.tensor(SEEDS), torch.get_rng_state()
    many(seeds, 5, 8)
    assert seeds.tolist() == SEEDS
    assert torch.equal(torch.get_rng_state(), state)
    assert many(seeds.to("meta"), 5, 8).device.type == "meta", "it draws where the seeds are"
