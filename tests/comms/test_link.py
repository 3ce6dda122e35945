"""What is sent over a link: lost, blurred and rounded; sampled symbols; joined with others; expected where it is lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Independent, Normal

from antiphon.base.extensions import Catalogue
from antiphon.comms import Example, Mask
from antiphon.comms.examples import ContextSpec
from antiphon.comms.links import Link
from antiphon.comms.symbols import (
    ArgmaxSampler,
    GaussianSampler,
    GumbelSampler,
    LatentSampler,
    ReinforceSampler,
    SymbolSampler,
)
from antiphon.comms.synthetic_inputs import InputModel
from antiphon.nets.random import normal, uniform
from antiphon.nets.schedules import Rate
from tests.comms.made import DOUBLE, draw


def losses(link: Link, stamps: int = 500, batch: int = 40) -> Tensor:
    """[stamps, batch] bool."""
    return torch.stack([link.lost(stamp, batch, "cpu").tensor(batch, "cpu") for stamp in range(stamps)])


@pytest.mark.parametrize("drop", [0.1, 0.9])
def test_the_rate_is_right_over_time_and_over_environments(drop: float) -> None:
    lost = losses(Link(name="a->b", drop=drop)).double()
    error = (drop * (1 - drop)) ** 0.5
    assert abs(float(lost.mean()) - drop) < 4 * error / 20_000**0.5
    assert (lost.mean(0) - drop).abs().max() < 4.5 * error / 500**0.5
    assert (lost.mean(1) - drop).abs().max() < 4.5 * error / 40**0.5


def test_losses_are_reproducible_and_follow_seed_and_name() -> None:
    first = losses(Link(name="a->b", drop=0.5))
    assert torch.equal(first[:, :5], losses(Link(name="a->b", drop=0.5), batch=5))
    in_time = (first[1:].double() - 0.5) * (first[:-1].double() - 0.5)
    assert abs(float(in_time.mean()) * 4) < 4 / 20_000**0.5
    for other in (Link(name="a->c", drop=0.5), Link(name="a->b", drop=0.5, seed=1)):
        assert 0.45 < float((losses(other) == first).double().mean()) < 0.55


def messages(batch: int = 6, size: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [1, 3, 16])
def test_what_arrives_has_few_levels_and_is_within_half_an_interval(bits: int) -> None:
    message = messages(size=400)
    received = Link(name="a->b", bits=bits).carry(0, message)
    largest = message.abs().amax(1, keepdim=True)
    interval = 2 * largest / (2**bits - 1)
    rounding = 2e-6 * largest
    assert bool(((received - message).abs() <= interval / 2 + rounding).all())
    levels = (received + largest) / interval
    assert torch.allclose(levels, levels.round(), atol=0.01)
    assert float(levels.min()) >= -0.01
    assert float(levels.max()) <= 2**bits - 1 + 0.01
    if bits < 4:
        assert torch.equal(levels.round().unique(), torch.arange(2.0**bits))
    furthest = message.abs() == largest
    assert torch.equal(received[furthest], message[furthest]), "the ends of the range are levels themselves"


@pytest.mark.parametrize("sigma", [0.1, 3.0])
def test_noise_has_its_deviation_and_is_independent_in_all_directions(sigma: float) -> None:
    link = Link(name="a->b", noise=sigma)
    message = messages(20, 10)
    noise = torch.stack([link.carry(stamp, message) - message for stamp in range(200)]) / sigma  # [T, B, M]
    assert abs(float(noise.mean())) < 4 / noise.numel() ** 0.5
    assert abs(float(noise.square().mean()) - 1) < 4 * (2 / noise.numel()) ** 0.5
    for a, b in ((noise[1:], noise[:-1]), (noise[:, 1:, 0], noise[:, :-1, -1])):
        assert abs(float((a * b).mean())) < 4 / a.numel() ** 0.5


def test_noise_is_a_function_of_seed_name_stamp_and_place() -> None:
    message = torch.zeros(4, 3)
    noise = Link(name="a->b", noise=1.0).carry(7, message)
    assert torch.equal(noise, Link(name="a->b", noise=1.0, drop=0.5).carry(7, message))
    assert torch.equal(noise[:2], Link(name="a->b", noise=1.0).carry(7, message[:2]))
    assert torch.equal(noise * 0.5, Link(name="a->b", noise=0.5).carry(7, message))
    others = [
        Link(name="a->b", noise=1.0).carry(8, message),
        Link(name="a->c", noise=1.0).carry(7, message),
        Link(name="a->b", noise=1.0, seed=1).carry(7, message),
    ]
    assert not any(bool((other == noise).any()) for other in others)
    state = torch.get_rng_state()
    Link(name="a->b", noise=1.0).carry(7, message)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_passes_straight_through_and_changes_no_bit(dtype: torch.dtype) -> None:
    link = Link(name="a->b", bits=2, noise=0.3)
    weights = messages().to(dtype).requires_grad_()
    received = link.carry(1, weights * 3)
    assert torch.equal(received, link.carry(1, weights.detach() * 3))
    assert received.dtype == dtype
    (gradient,) = torch.autograd.grad((received * messages(seed=1)).sum(), weights)
    assert torch.allclose(gradient, 3 * messages(seed=1).to(dtype))
    rounded = Link(name="a->b", bits=2).carry(1, weights * 3)
    noise = Link(name="a->b", noise=0.3).carry(1, torch.zeros_like(weights))
    assert torch.equal(received, rounded + noise)


# --- symbols ---------------------------------------------------------------------------------------------


LOGITS = torch.tensor([[1.0, -0.5, 0.25, 0.0, 2.0, -1.0]], dtype=torch.float64)
"""Two positions of a vocabulary of three."""


def symbols(by: str = "gumbel", temperature: float = 0.7, seed: int = 5) -> SymbolSampler:
    kinds = {"gumbel": GumbelSampler, "argmax": ArgmaxSampler, "reinforce": ReinforceSampler}
    return kinds[by](3, 2, seed, temperature)


def gumbel(seed: int, stamp: int, like: Tensor) -> Tensor:
    return -torch.log(-torch.log(uniform(seed, stamp, like.numel()))).view_as(like)


def gradient_of(message: Tensor, port: Tensor, weights: Tensor) -> Tensor:
    return torch.autograd.grad((message * weights).sum(), port)[0]


@pytest.mark.parametrize("by", ["gumbel", "argmax"])
def test_the_value_is_one_hot_and_the_gradient_that_of_the_softmax(by: str) -> None:
    port = LOGITS.repeat(8, 1).requires_grad_()
    message, sent = symbols(by).send(port, 3)
    noise = gumbel(5, 3, port) if by == "gumbel" else torch.zeros_like(port)
    noisy = (port + noise).view(8, 2, 3)
    assert torch.equal(message, sent)
    assert torch.equal(sent.view(8, 2, 3).argmax(-1), noisy.argmax(-1))
    assert torch.equal(sent.sum(1), torch.full((8,), 2.0, dtype=torch.float64))
    weights = torch.linspace(-1, 1, 48, dtype=torch.float64).view(8, 6)
    by_hand = gradient_of(torch.softmax(noisy / 0.7, -1).flatten(1), port, weights)
    assert torch.allclose(gradient_of(message, port, weights), by_hand, atol=1e-15)


@pytest.mark.parametrize("by", ["gumbel", "reinforce"])
def test_symbols_are_sampled_from_the_softmax_of_the_logits(by: str) -> None:
    port = LOGITS.repeat(20_000, 1)
    _, sent = symbols(by).send(port, 0)
    expected = torch.softmax(LOGITS.view(2, 3), -1).flatten()
    deviation = (expected * (1 - expected) / 20_000).sqrt()
    assert ((sent.mean(0) - expected).abs() < 4 * deviation).all()
    both = sent.view(-1, 2, 3)
    joint = (both[:, 0, :, None] * both[:, 1, None, :]).mean(0)  # positions are independent
    assert torch.allclose(joint, expected[:3, None] * expected[None, 3:], atol=0.012)


@pytest.mark.parametrize("sampler", [symbols(), GaussianSampler(0.5, 5)])
def test_a_replayed_message_is_what_was_sent_whatever_the_parameters_are(
    sampler: SymbolSampler | GaussianSampler,
) -> None:
    message, sent = sampler.send(LOGITS.repeat(4, 1), 2)
    later = torch.flip(LOGITS, [1]).repeat(4, 1).requires_grad_()
    replayed, known = sampler.send(later, 2, sent)
    assert torch.equal(replayed, message)
    assert torch.equal(known, sent)
    if isinstance(sampler, SymbolSampler):
        soft = torch.softmax((later + gumbel(5, 2, later)).view(4, 2, 3) / 0.7, -1)
        weights = torch.arange(24.0, dtype=torch.float64).view(4, 6)
        by_hand = gradient_of(soft.flatten(1), later, weights)
        assert torch.allclose(gradient_of(replayed, later, weights), by_hand)


def test_log_probability_and_entropy_of_gaussian_messages() -> None:
    port = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = GaussianSampler(0.3, 1)
    message, sent = sampler.send(port, 4)
    noise = normal(1, 4, 30).view(5, 6)
    assert torch.allclose(sent, port.flatten(1) + 0.3 * noise)
    assert torch.equal(message, sent.view(5, 2, 3))
    known = Independent(Normal(port.flatten(1), torch.full((5, 6), 0.3, dtype=torch.float64)), 1)
    assert torch.allclose(sampler.log_prob(port, sent), known.log_prob(sent))
    assert torch.allclose(sampler.entropy(port), known.entropy())


@pytest.mark.parametrize("replayed", [False, True])
def test_a_latent_is_a_sample_whose_gradient_reaches_mean_and_deviation(replayed: bool) -> None:
    """Channel by channel the noise is that of its seed; a replay adds it to what the port holds by then."""
    port = torch.randn(6, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = LatentSampler(1).stack([LatentSampler(1), LatentSampler(2)])
    before = torch.zeros(6, 6, dtype=torch.float64) if replayed else None
    message, sent = sampler.send(port.requires_grad_(), 4, before)
    noise = torch.cat([normal(seed, 4, 18) for seed in (1, 2)]).view(6, 2, 3)
    known = Normal(port[:, :2], port[:, 2:].exp())
    assert torch.equal(message, sent.view(6, 2, 3))
    assert torch.allclose(message, known.mean + known.stddev * noise, atol=1e-15)
    weights = torch.linspace(-1, 1, 36, dtype=torch.float64).view(6, 2, 3)
    by_hand = torch.cat([weights, weights * noise * known.stddev], 1)
    assert torch.allclose(gradient_of(message, port, weights), by_hand, atol=1e-15)


# --- synthetic inputs ------------------------------------------------------------------------------------


CONTEXT = (ContextSpec("image", (3,)), ContextSpec("to.phase", (), 2))


def make(kind: str, context: tuple[ContextSpec, ...] = CONTEXT, **given: Any) -> InputModel:
    settings: dict[str, Any] = {
        "generator": torch.Generator().manual_seed(0),
        "optimiser": {"kind": "adam"},
        "rate": Rate(base=0.02, run_steps=1),
        "hidden": (8,),
        "dtype": DOUBLE,
        **given,
    }
    return Catalogue("input")[kind]((4,), context, **settings)


def shown(seed: int, rows: int = 32) -> tuple[Tensor, Tensor]:
    """A context, and the message that goes with it."""
    context = torch.cat([draw(rows, 3, seed=seed), F.one_hot(torch.arange(rows) % 2, 2).to(DOUBLE)], 1)
    return context, F.linear(context, draw(4, 5, seed=99))


def taught(context: Tensor, message: Tensor, arrived: Tensor | bool = True) -> Example:
    """What it learns from a message."""
    return Example(message, context, None, valid=Mask.of(arrived))


@pytest.mark.parametrize("kind", list(Catalogue("input")))
def test_it_expects_zeros_at_first_and_learns_what_is_sent(kind: str) -> None:
    own = make(kind)
    context, message = shown(0)
    assert torch.equal(own.predict(context, 32), torch.zeros(32, 4, dtype=DOUBLE))
    first, _ = own.loss_and_gradients([taught(context, message)])
    torch.testing.assert_close(first, message.square().sum(1).mean())
    for now in range(200):
        loss, gradients = own.loss_and_gradients([taught(*shown(now))])
        own.step(gradients, now)
    assert loss < first / 8


@pytest.mark.parametrize("kind", list(Catalogue("input")))
def test_only_what_arrived_counts_and_the_mean_is_over_the_whole_batch(kind: str) -> None:
    own = make(kind, norm="none")
    with torch.no_grad():
        own.parameters["last.weight"].copy_(draw(*own.parameters["last.weight"].shape, seed=5))
    context, message = shown(0)
    arrived = torch.arange(32) < 8
    lost = torch.where(arrived.unsqueeze(1), message, torch.nan)
    loss, gradients = own.loss_and_gradients([taught(context, lost, arrived), taught(context, message)])
    few, gradients_few = own.loss_and_gradients([taught(context[:8], message[:8])])
    whole, gradients_whole = own.loss_and_gradients([taught(context, message)])
    torch.testing.assert_close(loss, few / 4 + whole)
    for mine, some, all_ in zip(gradients, gradients_few, gradients_whole, strict=True):
        torch.testing.assert_close(mine, some / 4 + all_)
