"""Links lose, blur and round messages: at their rate, reproducibly, and each environment by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.comms.links import Link
from tests.some import some


def stacked(links: list[Link]) -> Link:
    return replace(links[0], members=tuple(links))


def losses(link: Link, stamps: int = 500, batch: int = 40) -> Tensor:
    """[stamps, batch] bool."""
    rows = [link.lost(stamp, batch, "cpu") for stamp in range(stamps)]
    return torch.stack([row for row in rows if row is not None])


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9])
def test_the_rate_is_right_over_time_and_over_environments(drop: float) -> None:
    lost = losses(Link(name="a->b", drop=drop)).double()
    error = (drop * (1 - drop)) ** 0.5
    assert abs(float(lost.mean()) - drop) < 4 * error / 20_000**0.5
    assert (lost.mean(0) - drop).abs().max() < 4.5 * error / 500**0.5
    assert (lost.mean(1) - drop).abs().max() < 4.5 * error / 40**0.5


def test_losses_are_reproducible_and_follow_seed_and_name() -> None:
    first = losses(Link(name="a->b", drop=0.5))
    assert torch.equal(first, losses(Link(name="a->b", drop=0.5, delay=3)))
    for other in (Link(name="a->c", drop=0.5), Link(name="a->b", drop=0.5, seed=1)):
        assert 0.45 < float((losses(other) == first).double().mean()) < 0.55


def test_environments_are_independent_and_do_not_depend_on_how_many_there_are() -> None:
    link = Link(name="a->b", drop=0.5)
    lost = losses(link)
    assert torch.equal(lost[:, :5], losses(link, batch=5))
    correlation = torch.corrcoef(lost.double().T) - torch.eye(40)
    assert correlation.abs().max() < 5 / 500**0.5
    in_time = (lost[1:].double() - 0.5) * (lost[:-1].double() - 0.5)
    assert abs(float(in_time.mean()) * 4) < 4 / 20_000**0.5


def test_the_ends_of_the_range() -> None:
    assert Link(name="a->b").lost(3, 8, "cpu") is None
    everything = some(Link(name="a->b", drop=1.0).lost(3, 8, "cpu"))
    assert bool(everything.all())
    elsewhere = some(Link(name="a->b", drop=0.5).lost(3, 8, "meta"))
    assert elsewhere.device.type == "meta"


def messages(batch: int = 6, size: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(seed))


def test_a_clean_link_hands_on_the_very_tensor() -> None:
    message = messages()
    assert Link(name="a->b", delay=2, drop=0.5).carry(3, message) is message


@pytest.mark.parametrize("bits", [1, 2, 3, 8, 16])
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


def test_one_bit_is_the_sign_and_a_zero_message_stays_one() -> None:
    message = torch.tensor([[0.5, -2.0, 1.5], [0.0, 0.0, 0.0], [-1e-30, 1e-30, 1e-31]])
    received = Link(name="a->b", bits=1).carry(0, message)
    assert torch.equal(received[0], torch.tensor([2.0, -2.0, 2.0]))
    assert torch.equal(received[1], torch.zeros(3))
    assert torch.equal(received[2], torch.tensor([-1e-30, 1e-30, 1e-30]))


def test_each_sample_has_a_range_of_its_own() -> None:
    message = messages()
    link = Link(name="a->b", bits=3)
    louder = message * torch.tensor([[1.0], [4.0], [1.0], [1.0], [1.0], [1.0]])
    assert torch.equal(link.carry(0, louder)[0], link.carry(0, message)[0])
    assert torch.equal(link.carry(0, louder)[1], link.carry(0, message)[1] * 4)


@pytest.mark.parametrize("sigma", [0.1, 3.0])
def test_noise_has_its_deviation_and_is_independent_in_all_directions(sigma: float) -> None:
    link = Link(name="a->b", noise=sigma)
    message = messages(20, 10)
    noise = torch.stack([link.carry(stamp, message) - message for stamp in range(200)]) / sigma  # [T, B, M]
    assert abs(float(noise.mean())) < 4 / noise.numel() ** 0.5
    assert abs(float(noise.square().mean()) - 1) < 4 * (2 / noise.numel()) ** 0.5
    pairs = [
        (noise[1:], noise[:-1]),
        (noise[:, 1:], noise[:, :-1]),
        (noise[..., 1:], noise[..., :-1]),
        (noise[:, 1:, 0], noise[:, :-1, -1]),
    ]
    for a, b in pairs:
        assert abs(float((a * b).mean())) < 4 / a.numel() ** 0.5


def test_noise_is_a_function_of_seed_name_stamp_and_place() -> None:
    message = torch.zeros(4, 3)
    noise = Link(name="a->b", noise=1.0).carry(7, message)
    assert torch.equal(noise, Link(name="a->b", noise=1.0, delay=2, drop=0.5).carry(7, message))
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


def test_noise_comes_on_top_of_rounding() -> None:
    message = messages()
    rounded = Link(name="a->b", bits=2).carry(1, message)
    noise = Link(name="a->b", noise=0.1).carry(1, torch.zeros_like(message))
    assert torch.equal(Link(name="a->b", bits=2, noise=0.1).carry(1, message), rounded + noise)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_passes_straight_through_and_changes_no_bit(dtype: torch.dtype) -> None:
    link = Link(name="a->b", bits=2, noise=0.3)
    weights = messages().to(dtype).requires_grad_()
    received = link.carry(1, weights * 3)
    assert torch.equal(received, link.carry(1, weights.detach() * 3))
    assert received.dtype == dtype
    (gradient,) = torch.autograd.grad((received * messages(seed=1)).sum(), weights)
    assert torch.allclose(gradient, 3 * messages(seed=1).to(dtype))
    plain = link.carry(1, messages())
    assert not plain.requires_grad


# --- stacks of links ------------------------------------------------------------------------------------

BATCH = 4


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


LINKS: dict[str, dict[str, Any]] = {
    "plain": {"delay": 2},
    "drop": {"drop": 0.4},
    "noise": {"noise": 0.3},
    "bits": {"bits": 3},
    "all": {"delay": 1, "drop": 0.3, "noise": 0.1, "bits": 4},
}


def links(name: str) -> list[Link]:
    return [Link(name=f"a{k}->b{k % 2}", seed=7 + k // 2, **LINKS[name]) for k in range(5)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LINKS)
def test_links_do_to_each_message_what_its_own_does_bit_by_bit(name: str, dtype: torch.dtype) -> None:
    own = links(name)
    together = stacked(own)
    for key in ("delay", "drop", "noise", "bits"):
        assert getattr(together, key) == getattr(own[0], key)
    message = drawn(5 * BATCH, 6, dtype=dtype)
    message[BATCH : BATCH + 2] = 0.0
    for stamp in (0, 1, 17, 2**40):
        apart = [link.carry(stamp, m) for link, m in zip(own, torch.split(message, BATCH), strict=True)]
        assert torch.equal(together.carry(stamp, message), torch.cat(apart))
        lost = [link.lost(stamp, BATCH, "cpu") for link in own]
        found = together.lost(stamp, 5 * BATCH, "cpu")
        if found is None:
            assert lost == [None] * 5
        else:
            assert torch.equal(found, torch.cat([one for one in lost if one is not None]))


def test_links_of_equal_names_and_seeds_lose_the_same_and_others_do_not() -> None:
    one, other = Link(name="a->b", drop=0.5, seed=1), Link(name="a->b", drop=0.5, seed=2)
    found = some(stacked([one, one, other]).lost(3, 192, "cpu"))
    first, second, third = torch.split(found, 64)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert 10 < int(first.sum()) < 54


@pytest.mark.parametrize("name", ["noise", "bits", "all"])
def test_the_gradient_passes_links_straight_through(name: str) -> None:
    message = drawn(5 * BATCH, 6).requires_grad_()
    received = stacked(links(name)).carry(4, message)
    assert not torch.equal(received, message)
    assert torch.equal(received, stacked(links(name)).carry(4, message.detach()))
    (back,) = torch.autograd.grad(received.sum(), message)
    assert torch.equal(back, torch.ones_like(message))
