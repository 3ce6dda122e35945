"""How well gradients are predicted, in closed form, and gates: what predicts is applied as far as that is certain."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from antiphon.comms import alignment


def gradients(seed: int = 0) -> Tensor:
    return torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def metrics(synthetic: Tensor, true: Tensor) -> dict[str, float]:
    return {name: float(value) for name, value in alignment(synthetic, true).items()}


@pytest.mark.parametrize("factor", [1.0, 0.5, -2.0, 1e-8])
def test_a_multiple_of_the_truth(factor: float) -> None:
    true = gradients()
    true = 1e-3 * (true - true.mean(0))
    found = metrics(factor * true, true)
    assert found["cosine"] == pytest.approx(math.copysign(1, factor))
    assert found["norm_ratio"] == pytest.approx(abs(factor))
    assert found["r2"] == pytest.approx(1 - (1 - factor) ** 2)
    assert found["pooled_cosine"] == pytest.approx(math.copysign(1, factor))


def test_samples_without_a_true_gradient_have_no_say_in_the_cosine() -> None:
    """Semantics 34."""
    true = gradients()
    true[10:] = 0
    synthetic = true.clone()
    synthetic[10:] = 1
    assert metrics(synthetic, true)["cosine"] == pytest.approx(1)


def test_in_the_pooled_cosine_samples_weigh_as_much_as_their_gradients() -> None:
    true = torch.tensor([[3.0, 0.0], [0.1, 0.0], [0.1, 0.0]], dtype=torch.float64)
    synthetic = torch.tensor([[3.0, 0.0], [-0.1, 0.0], [-0.1, 0.0]], dtype=torch.float64)
    found = metrics(synthetic, true)
    assert found["cosine"] == pytest.approx(-1 / 3)
    assert found["pooled_cosine"] == pytest.approx((9 - 0.02) / (9 + 0.02))


def test_the_squared_error_is_bias_and_variance() -> None:
    true, noise = gradients(), gradients(1)
    shift = torch.tensor([0.3, 0.0, -0.4, 0.0], dtype=torch.float64)
    noise = noise - noise.mean(0)
    found = metrics(true + shift + noise, true)
    assert found["bias2"] == pytest.approx(0.25)
    assert found["variance"] == pytest.approx(float(noise.square().sum(1).mean()))
    total = float((shift + noise).square().sum(1).mean())  # what a predictor's loss is
    assert found["bias2"] + found["variance"] == pytest.approx(total)


def test_samples_that_do_not_count_are_as_if_they_were_not_there_for_each_member_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    synthetic, true = (torch.randn(4, 9, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    valid = torch.rand(4, 9, generator=generator) < 0.6
    assert 0 < valid.sum() < valid.numel()
    together = alignment(synthetic, true, valid)
    for n in range(4):
        alone = alignment(synthetic[n][valid[n]], true[n][valid[n]])
        assert together.keys() == alone.keys()
        for metric, value in alone.items():
            torch.testing.assert_close(together[metric][n], value, msg=metric)
