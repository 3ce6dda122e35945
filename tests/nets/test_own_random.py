"""Random numbers of a seed, drawn beside torch's own."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from antiphon.nets.isolation.global_numbers import draws_numbers, of_seed
from antiphon.nets.isolation.own_random import seeded

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


def test_a_generator_that_is_given_is_used() -> None:
    generator = torch.Generator().manual_seed(4)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(4))
    assert torch.equal(of_seed(1, lambda: torch.rand(3, generator=generator)), expected)


@pytest.mark.parametrize("drawing", [True, False])
def test_another_threads_numbers_are_drawn_before_or_after_a_call_that_draws_after_all(drawing: bool) -> None:
    """The other thread draws one number, and the second where the call, if it is within, has drawn too."""
    entered, drawn = threading.Event(), threading.Event()
    found: list[Tensor] = []

    def another() -> None:
        with seeded(3):
            found.append(torch.rand(1))
            entered.set()
            assert drawn.wait(_LONG)
            found.append(torch.rand(1))

    def compute() -> Tensor:
        if thread.ident is None:
            thread.start()
        entered.wait(_SHORT)  # in vain: the thread waits for the end of this call
        value = torch.rand(3) if drawing else torch.ones(3)
        drawn.set()
        return value

    torch.manual_seed(2)
    before = torch.get_rng_state()
    thread = threading.Thread(target=another)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(11)) if drawing else torch.ones(3)
    assert torch.equal(of_seed(11, compute, repeatable=True), expected)
    thread.join(_LONG)
    assert torch.equal(torch.cat(found), torch.rand(2, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_call_waits_for_another_threads_numbers() -> None:
    """The other thread draws its second number where the call, if it has begun, has drawn."""
    called, found = threading.Event(), list[Tensor]()

    def compute() -> Tensor:
        value = torch.rand(3)
        called.set()
        return value

    with seeded(3):
        found.append(torch.rand(1))
        thread = threading.Thread(target=lambda: of_seed(11, compute, repeatable=True))
        thread.start()
        called.wait(_SHORT)
        found.append(torch.rand(1))
    thread.join(_LONG)
    assert called.is_set()
    assert torch.equal(torch.cat(found), torch.rand(2, generator=torch.Generator().manual_seed(3)))


def test_a_call_that_seeds_torch_within_keeps_that_to_itself() -> None:
    """Beside another thread too, which keeps what it seeds meanwhile; also what torch's checkpoints do with states."""

    def compute() -> Tensor:
        state = torch.get_rng_state()
        first = torch.rand(2)
        torch.set_rng_state(state)
        assert torch.equal(torch.rand(2), first)
        torch.manual_seed(3)
        return torch.rand(2)

    torch.manual_seed(3)  # as the call does
    before = torch.get_rng_state()
    expected = torch.rand(2, generator=torch.Generator().manual_seed(3))
    for repeatable in (False, True):
        call = partial(of_seed, 11, compute, repeatable=repeatable)
        assert torch.equal(call(), expected)
        assert torch.equal(beside_another_thread(call), expected)
        assert torch.equal(torch.get_rng_state(), before)


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


def test_generators_of_one_seed_draw_different_numbers() -> None:
    """Torch's and numpy's are of one kind, so of one seed they would be one sequence."""
    bits: list[list[int]] = of_seed(
        7,
        lambda: [
            torch.randint(2, (64,)).tolist(),
            np.random.randint(0, 2, 64).tolist(),
            [random.getrandbits(1) for _ in range(64)],
        ],
    )
    assert len({*map(tuple, bits)}) == 3
