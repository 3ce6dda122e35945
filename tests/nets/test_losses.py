"""Losses are per sample; their means are torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from antiphon.nets.layers import binary_cross_entropy, cross_entropy, squared_error


def test_cross_entropy_is_minus_log_p_of_each_sample() -> None:
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    loss = cross_entropy(logits, target)
    assert loss.shape == (8,)
    torch.testing.assert_close(loss, -logits.log_softmax(1)[torch.arange(8), target])
    torch.testing.assert_close(loss.mean(), F.cross_entropy(logits, target))


@pytest.mark.parametrize("lead", [(8,), (2, 8)])
@pytest.mark.parametrize("sites", [(4,), (2, 3), (1,), (2, 1, 3)])
def test_cross_entropy_of_sites_is_their_mean(lead: tuple[int, ...], sites: tuple[int, ...]) -> None:
    count = torch.Size(sites).numel()
    logits, target = torch.randn(*lead, count * 5).requires_grad_(), torch.randint(5, (*lead, *sites))
    loss = cross_entropy(logits, target)
    assert loss.shape == lead
    laid_out = logits.view(-1, *sites, 5).movedim(-1, 1)
    each = F.cross_entropy(laid_out, target.view(-1, *sites), reduction="none")
    torch.testing.assert_close(loss.flatten(), each.flatten(1).mean(1))
    found, expected = (torch.autograd.grad(one.sum(), logits)[0] for one in (loss, each / count))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(8, 6), (8, 2, 3)])
def test_binary_cross_entropy_adds_components_up(shape: tuple[int, ...]) -> None:
    logits, target = torch.randn(8, 6), torch.randint(2, shape).float()
    loss = binary_cross_entropy(logits, target)
    assert loss.shape == (8,)
    mean = F.binary_cross_entropy(logits.sigmoid(), target.reshape(8, 6))
    torch.testing.assert_close(loss.mean(), 6 * mean)


@pytest.mark.parametrize("shape", [(8, 6), (8, 2, 3)])
def test_squared_error_averages_components(shape: tuple[int, ...]) -> None:
    output, target = torch.randn(8, 6), torch.randn(shape)
    loss = squared_error(output, target)
    assert loss.shape == (8,)
    torch.testing.assert_close(loss.mean(), F.mse_loss(output, target.reshape(8, 6)))
