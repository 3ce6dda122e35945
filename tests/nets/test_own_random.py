"""Random numbers of a seed, drawn beside torch's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon.nets.isolation.own_random import NoDraws, OwnDraws, SeededDraws, draws_of, seeded

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
    assert torch.equal(OwnDraws()(11, DRAWING[name]), expected)
    assert torch.equal(beside_another_thread(lambda: OwnDraws()(11, DRAWING[name])), expected)
    assert torch.equal(NoDraws()(11, DRAWING[name]), expected), "it draws after all"
    assert torch.equal(SeededDraws()(11, DRAWING[name]), expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(draws_of(DRAWING[name]), OwnDraws)


def test_a_generator_that_is_given_is_used() -> None:
    generator = torch.Generator().manual_seed(4)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(4))
    assert torch.equal(OwnDraws()(1, lambda: torch.rand(3, generator=generator)), expected)


@pytest.mark.parametrize("drawing", [True, False])
def test_a_call_beside_another_runs_numbers_has_those_of_its_own_seed(drawing: bool) -> None:
    """What it draws while they are torch's is not seen from torch's generator, which then has its own state again."""
    entered, leave = threading.Event(), threading.Event()

    def another() -> None:
        with seeded(3):
            entered.set()
            leave.wait()

    def compute() -> Tensor:
        if not entered.is_set():
            thread.start()
            entered.wait()
            value = torch.rand(3) if drawing else torch.ones(3)
            leave.set()
            thread.join()
            return value
        return torch.rand(3) if drawing else torch.ones(3)

    thread = threading.Thread(target=another)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        expected = torch.rand(3) if drawing else torch.ones(3)
    before = torch.get_rng_state()
    assert torch.equal(NoDraws()(11, compute), expected)
    assert torch.equal(torch.get_rng_state(), before)
