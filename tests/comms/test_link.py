"""Links lose, blur and round messages: at their rate, reproducibly, and each environment by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from antiphon.comms.links import Link


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
