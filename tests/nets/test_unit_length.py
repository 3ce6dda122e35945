"""Messages of unit length: values, gradients, and a row of zeros."""

from __future__ import annotations

import torch

from antiphon.nets.layers import initial_norm, norm_buffers, normalise, unit_length
from tests.comms.made import draw


def test_each_row_has_the_norm_one_and_keeps_its_direction() -> None:
    for lead in ((5,), (2, 5)):  # single networks, and stacked ones
        x = draw(*lead, 4, seed=1)
        y, statistics = normalise("unit", x, {}, {}, training=True)
        torch.testing.assert_close(y.norm(dim=-1), torch.ones(lead, dtype=x.dtype))
        torch.testing.assert_close(y * x.norm(dim=-1, keepdim=True), x)
        assert statistics == initial_norm("unit", 4) == norm_buffers("unit", 4) == {}


def test_the_gradient_is_across_the_message() -> None:
    x = draw(5, 4, seed=1).requires_grad_()
    weights = draw(5, 4, seed=2)
    (gradient,) = torch.autograd.grad((unit_length(x) * weights).sum(), x)
    unit = x / x.norm(dim=1, keepdim=True)
    across = weights - (weights * unit).sum(1, keepdim=True) * unit
    torch.testing.assert_close(gradient, across / x.norm(dim=1, keepdim=True))


def test_zeros_stay_zeros_with_a_finite_gradient() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    y = unit_length(x)
    assert torch.equal(y, torch.zeros(2, 3))
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()
