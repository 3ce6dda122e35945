"""Sampled messages: values, gradients, probabilities, and noise that depends on seed and step alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal

from antiphon.comms.symbols import (
    ArgmaxSampler,
    GaussianSampler,
    GumbelSampler,
    LatentSampler,
    ReinforceSampler,
    SymbolSampler,
)
from antiphon.nets.random import normal, uniform

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


def test_log_probability_and_entropy_of_symbols() -> None:
    port = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = symbols("reinforce", 1.0)
    message, sent = sampler.send(port.requires_grad_(), 0)
    assert not message.requires_grad
    port = port.detach()
    known = Independent(Categorical(logits=port.view(5, 2, 3)), 1)
    assert torch.allclose(sampler.log_prob(port, sent), known.log_prob(sent.view(5, 2, 3).argmax(-1)))
    assert torch.allclose(sampler.entropy(port), known.entropy())
    assert math.isclose(float(sampler.entropy(torch.zeros(1, 6))[0]), 2 * math.log(3), rel_tol=1e-6)


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
    assert torch.allclose(sampler.log_prob(port, sent), known.log_prob(message).sum((1, 2)))
    assert torch.allclose(sampler.entropy(port), known.entropy().sum((1, 2)))
