"""The least loss of a linear map: in closed form, where it is zero, and against its own slope."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from antiphon.nets import optimum as module
from antiphon.nets.optimum import optimum
from tests.tensors import DOUBLE, drawn


def test_squared_error_of_one_variable_is_the_variance_that_correlation_leaves() -> None:
    x, y = drawn(0, 30, 1), drawn(1, 30)
    r = torch.corrcoef(torch.stack([x[:, 0], y]))[0, 1]
    expected = y.var(correction=0) * (1 - r**2)
    assert optimum(x, y, "regression") == pytest.approx(float(expected), rel=1e-12)


def test_squared_error_is_averaged_over_components() -> None:
    x, y = drawn(0, 30, 3), drawn(1, 30, 2)
    apart = [optimum(x, y[:, i], "regression") for i in (0, 1)]
    assert optimum(x, y, "regression") == pytest.approx(sum(apart) / 2, rel=1e-12)


def test_log_loss_without_information_is_the_entropy_of_the_classes() -> None:
    classes = torch.tensor([0, 0, 0, 1])
    expected = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert optimum(torch.zeros(4, 2), classes, "classification") == pytest.approx(expected, rel=1e-12)


def test_log_loss_of_several_sites_is_their_mean() -> None:
    x, classes = drawn(0, 40, 2), torch.randint(3, (40, 2, 2), generator=torch.Generator().manual_seed(0))
    each = [optimum(x, one, "classification") for one in classes.flatten(1).unbind(1)]
    assert optimum(x, classes, "classification") == pytest.approx(sum(each) / 4, rel=1e-12)
    assert each[0] > 0.1


def test_log_loss_of_classes_that_a_plane_parts_is_zero() -> None:
    x = drawn(0, 200, 20)
    assert optimum(x, (x @ drawn(1, 20) > 0).long(), "classification") == 0.0


@pytest.mark.parametrize("classes", [2, 4])
def test_log_loss_is_below_what_gradient_descent_reaches_and_no_lower_than_it_converges_to(
    classes: int,
) -> None:
    x = drawn(0, 100, 3)
    y = torch.randint(classes, (100,), generator=torch.Generator().manual_seed(2))
    least = optimum(x, y, "classification")
    weight = torch.zeros(classes, 3, dtype=DOUBLE, requires_grad=True)
    bias = torch.zeros(classes, dtype=DOUBLE, requires_grad=True)
    for _ in range(1500):
        loss = F.cross_entropy(F.linear(x, weight, bias), y)
        for p, g in zip((weight, bias), torch.autograd.grad(loss, [weight, bias]), strict=True):
            p.data.sub_(g)
    assert 0 <= loss.item() - least < 1e-9


def test_a_minimum_that_is_not_found_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROUNDS", 1)
    monkeypatch.setattr(module, "_STEPS", 1)
    with pytest.raises(RuntimeError, match="standardise the inputs"):
        optimum(drawn(0, 50, 3), (drawn(1, 50) > 0).long(), "classification")
