"""Direct feedback: an error carried to a message through a fixed matrix, random or of ones."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.comms.feedback import DirectFeedback

DOUBLE = torch.float64


def made(seed: int | None, size: int = 5, outputs: int = 3) -> DirectFeedback:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DirectFeedback(size, outputs, generator, dtype=DOUBLE)


def error(rows: int = 4) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(9), dtype=DOUBLE)


def test_the_error_of_each_sample_passes_through_the_matrix() -> None:
    feedback = made(0)
    told = feedback.signal(error())
    for row, given in zip(told, error(), strict=True):
        torch.testing.assert_close(row, feedback.weight @ given)


def test_the_matrix_follows_its_generator_and_is_drawn_as_layers_are() -> None:
    assert torch.equal(made(0).weight, made(0).weight)
    assert not torch.equal(made(0).weight, made(1).weight)
    weight = made(0, size=400, outputs=25).weight
    assert 0.199 < float(weight.abs().max()) <= 0.2


def test_kickback_tells_every_component_the_sum_of_the_errors() -> None:
    told = made(None).signal(error())
    torch.testing.assert_close(told, error().sum(1, keepdim=True).expand(4, 5))
