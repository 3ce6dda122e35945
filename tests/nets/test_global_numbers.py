"""Random numbers of a seed, and the caller's own generators, which stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from antiphon.nets.isolation.global_numbers import draws_numbers, of_seed

DRAWING: dict[str, Callable[[], Any]] = {
    "a tensor": lambda: torch.randn(2, 3, dtype=torch.float64),
    "in place": lambda: torch.zeros(4).uniform_().exponential_().normal_(),
    "dropout": lambda: nn.functional.dropout(torch.ones(9), 0.5),
    "layer": lambda: nn.GRU(3, 2).weight_ih_l0.detach(),
    "several": lambda: torch.stack([torch.rand(2), torch.randn(2), torch.rand_like(torch.zeros(2))]),
}


@pytest.mark.parametrize("name", DRAWING)
def test_numbers_of_a_seed_are_those_that_torch_draws_and_torchs_own_stay(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        expected = DRAWING[name]()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    for repeatable in (False, True):
        assert torch.equal(of_seed(11, DRAWING[name], repeatable=repeatable), expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert draws_numbers(DRAWING[name])


def test_numpys_generator_is_given_back_as_it_was() -> None:
    """With the second number of a pair of normal ones, and of another kind, if the caller has chosen one."""
    kept = np.random.get_bit_generator()  # type: ignore[attr-defined]
    state = np.random.get_state()
    try:
        for kind in (np.random.MT19937, np.random.PCG64):
            np.random.set_bit_generator(kind(5))  # type: ignore[attr-defined]
            expected = np.random.randn(5), np.random.rand(3)
            np.random.set_bit_generator(kind(5))  # type: ignore[attr-defined]
            found = np.random.randn(3)
            drawn = [of_seed(11, lambda: np.random.randn(3)) for _ in range(2)]
            assert (drawn[0] == drawn[1]).all()
            assert ([*found, *np.random.randn(2)] == expected[0]).all()
            of_seed(11, lambda: np.random.randn(3))
            assert (np.random.rand(3) == expected[1]).all()
    finally:
        np.random.set_bit_generator(kept)  # type: ignore[attr-defined]
        np.random.set_state(state)
