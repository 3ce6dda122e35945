"""Layer norm of messages: torch's own over the features of every site, and its vector-Jacobian product."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.nets.site_axes import layer_norm
from tests.comms.made import BATCH, SIZE, draw

SHAPES = [(SIZE,), (3, 6), (6, 1, 3), (6, 3, 1), (2, 3, 1, 3)]


def by_torch(message: Tensor, shape: tuple[int, ...]) -> Tensor:
    x = message.unflatten(-1, shape)
    if len(shape) > 2:  # features first
        return (
            F.layer_norm(x.movedim(-len(shape), -1), shape[:1]).movedim(-1, -len(shape)).flatten(-len(shape))
        )
    return F.layer_norm(x, shape[-1:]).flatten(-len(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lead", [(BATCH,), (2, BATCH)])
def test_it_is_the_layer_norm_of_every_site(shape: tuple[int, ...], lead: tuple[int, ...]) -> None:
    message = draw(*lead, SIZE, seed=1)
    torch.testing.assert_close(layer_norm(message, shape)[0], by_torch(message, shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_it_pulls_gradients_back_as_autograd_does(shape: tuple[int, ...]) -> None:
    message, gradient = draw(BATCH, SIZE, seed=1).requires_grad_(), draw(BATCH, SIZE, seed=2)
    _, pull_back = layer_norm(message.detach(), shape)
    expected = torch.autograd.grad(by_torch(message, shape), message, gradient)[0]
    torch.testing.assert_close(pull_back(gradient), expected)
