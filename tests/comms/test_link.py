"""Links lose messages at their rate, reproducibly, and each environment by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from antiphon.comms import Link


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
    everything = Link(name="a->b", drop=1.0).lost(3, 8, "cpu")
    assert everything is not None
    assert bool(everything.all())
    elsewhere = Link(name="a->b", drop=0.5).lost(3, 8, "meta")
    assert elsewhere is not None
    assert elsewhere.device.type == "meta"
