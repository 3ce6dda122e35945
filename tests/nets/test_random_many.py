"""Counter-based draws for many seeds at once: the bits of one seed at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from antiphon.nets.random import normal, normal_many, seed_for, uniform, uniform_many

SEEDS = [0, 1, 2**63 - 1, 2**62, 12345, *(seed_for(0, str(i)) for i in range(11))]
PAIRS = {"uniform": (uniform_many, uniform), "normal": (normal_many, normal)}
each_pair = pytest.mark.parametrize(("many", "one"), PAIRS.values(), ids=PAIRS)

Many = Callable[[Tensor, int, int], Tensor]
One = Callable[[int, int, int], Tensor]


@each_pair
@pytest.mark.parametrize(("step", "lanes"), [(0, 7), (1, 64), (2**40, 1), (2**62, 0), (-1, 7)])
def test_many_seeds_draw_the_bits_of_each(many: Many, one: One, step: int, lanes: int) -> None:
    state = torch.get_rng_state()
    drawn = many(torch.tensor(SEEDS), step, lanes)
    assert torch.equal(torch.get_rng_state(), state)
    assert drawn.shape == (len(SEEDS), lanes)
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn, torch.stack([one(seed, step, lanes) for seed in SEEDS]))
