"""Random numbers of a seed, drawn beside torch's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from antiphon.nets.isolation.global_numbers import draws_numbers, of_seed

DRAWING: dict[str, Callable[[], Any]] = {
    "rand": lambda: torch.rand(5),
    "randn": lambda: torch.randn(2, 3, dtype=torch.float64),
    "randint": lambda: torch.randint(2, 9, (6,)),
    "randint to": lambda: torch.randint(9, (6,)),
    "randperm": lambda: torch.randperm(9),
    "rand_like": lambda: torch.rand_like(torch.zeros(4)),
    "randn_like": lambda: torch.randn_like(torch.zeros(4)),
    "randint_like": lambda: torch.randint_like(torch.zeros(4), 2, 9),
    "normal": lambda: torch.normal(torch.zeros(4), 1.0),
    "in place": lambda: torch.zeros(4).uniform_().exponential_().normal_(),
    "bernoulli": lambda: torch.bernoulli(torch.full((9,), 0.5)),
    "multinomial": lambda: torch.multinomial(torch.ones(5), 3),
    "poisson": lambda: torch.poisson(torch.full((5,), 3.0)),
    "dropout": lambda: nn.functional.dropout(torch.ones(9), 0.5),
    "native dropout": lambda: torch.native_dropout(torch.ones(9), 0.5, True)[0],
    "channels": lambda: nn.functional.dropout2d(torch.ones(2, 4, 2, 2), 0.5),
    "alpha": lambda: nn.functional.alpha_dropout(torch.ones(9), 0.5, training=True),
    "rrelu": lambda: nn.functional.rrelu(-torch.ones(9), training=True),
    "gumbel": lambda: nn.functional.gumbel_softmax(torch.zeros(2, 4)),
    "attention": lambda: nn.functional.scaled_dot_product_attention(
        *[torch.ones(1, 1, 3, 4)] * 3, dropout_p=0.5
    ),
    "distributions": lambda: torch.distributions.Gamma(2.0, 1.0).sample((3,)),
    "dirichlet": lambda: torch.distributions.Dirichlet(torch.ones(4)).rsample(),
    "init": lambda: nn.init.trunc_normal_(torch.zeros(3, 3)),
    "layer": lambda: nn.GRU(3, 2).weight_ih_l0.detach(),
    "several": lambda: torch.stack([torch.rand(2), torch.randn(2), torch.rand_like(torch.zeros(2))]),
}


_SHORT, _LONG = 0.3, 20.0
"""Seconds in which another thread does what it may do, and in which it does what it has to."""


def beside_another_thread(compute: Callable[[], Tensor]) -> Tensor:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        return compute()
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("name", DRAWING)
def test_numbers_of_a_seed_are_those_that_torch_draws_and_torchs_own_stay(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        expected = DRAWING[name]()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    for repeatable in (False, True):

        def compute(repeatable: bool = repeatable) -> Tensor:
            return of_seed(11, DRAWING[name], repeatable=repeatable)

        assert torch.equal(compute(), expected)
        assert torch.equal(beside_another_thread(compute), expected)
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
