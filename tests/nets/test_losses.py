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


def test_a_scalar_target_per_sample_fits_one_output() -> None:
    output, target = torch.randn(8, 1), torch.randn(8)
    torch.testing.assert_close(squared_error(output, target), (output[:, 0] - target).square())
