"""Losses of the native operators against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from antiphon.nets import layers
from antiphon.nets.native import losses
from antiphon.nets.native.compiled_kernel import kernel

pytestmark = pytest.mark.skipif(kernel() is None, reason="no C++ compiler found")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def expected(loss: Tensor, output: Tensor, factor: float) -> Tensor:
    return factor * torch.autograd.grad(loss.sum(), output)[0]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [1, 7, 32])
def test_squared_errors_are_those_of_torch(size: int, dtype: torch.dtype) -> None:
    output = torch.randn(21, size, dtype=dtype, requires_grad=True)
    target = torch.randn(21, size, dtype=dtype)
    found, derivative = losses.squared_error(output.detach(), target, 1 / size, 0.25)
    theirs = layers.squared_error(output, target)
    torch.testing.assert_close(found, theirs.detach(), rtol=0, atol=TOLERANCE[dtype])
    torch.testing.assert_close(derivative, expected(theirs, output, 0.25), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("classes", "sites"), [(2, ()), (17, ()), (10, (1,)), (2, (3,)), (10, (2, 2))])
def test_cross_entropies_are_those_of_torch(classes: int, sites: tuple[int, ...], dtype: torch.dtype) -> None:
    outputs = classes * torch.Size(sites).numel()
    output = (30 * torch.randn(21, outputs, dtype=dtype)).requires_grad_()  # far apart: without an overflow
    target = torch.randint(classes, (21, *sites))
    found, derivative = losses.cross_entropy(output.detach(), target, 0.25)
    theirs = layers.cross_entropy(output, target)
    torch.testing.assert_close(found, theirs.detach(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    torch.testing.assert_close(derivative, expected(theirs, output, 0.25), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_so(value: float) -> None:
    output = torch.zeros(3, 4)
    output[1, 2] = value
    for found in (
        losses.squared_error(output, torch.zeros(3, 4), 0.25, 1.0),
        losses.cross_entropy(output, torch.zeros(3, dtype=torch.int64), 1.0),
    ):
        for tensor in found:
            assert tensor.view(3, -1).isfinite().all(1).tolist() == [True, False, True]
