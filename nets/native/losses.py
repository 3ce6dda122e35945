"""Losses with their derivatives, computed by the native kernel. Shapes: B rows, O outputs."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from antiphon.nets.native.compiled_kernel import address, function


def squared_error(output: Tensor, target: Tensor, mean: float, factor: float) -> tuple[Tensor, Tensor]:
    """Return the squared errors, times `mean`, [B], and `factor` times the derivative of their sum.

    Args:
        output: [B, O].
        target: [B, O]; fewer rows are repeated.
        mean: 1 / O for the average over components, 1 for their sum.
        factor: Factor of the derivative.
    """
    return _loss(output, target, 0, mean, factor)


def cross_entropy(output: Tensor, target: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return -log p(target), averaged over the sites S, [B], and `factor` times the derivative of their sum.

    Args:
        output: [B, S * classes].
        target: Integers, [B, …] with S numbers for each row; fewer rows are repeated.
        factor: Factor of the derivative.
    """
    return _loss(output, target, target[0].numel(), 1.0, factor)


def with_graph(output: Tensor, losses: Tensor, derivative: Tensor, factor: float) -> Tensor:
    """Return losses that this module computed from an output's values, connected to the output's graph.

    Args:
        output: [B, O].
        losses: [B].
        derivative: `factor` times the derivative of the sum of the losses, [B, O].
        factor: The expected gradient of each loss.
    """
    losses_with_graph: Tensor = _Loss.apply(output, losses, derivative, factor)  # type: ignore[no-untyped-call]
    return losses_with_graph


class _Loss(torch.autograd.Function):
    """Losses of an output, computed beforehand like their derivative."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, losses: Tensor, derivative: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(derivative)
        ctx.factor = factor
        return losses.data

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (derivative,) = ctx.saved_tensors
        if gradient.stride(0) or float(gradient[0]) != ctx.factor:
            derivative = derivative * (gradient / ctx.factor).unsqueeze(1)
        return derivative, None, None, None


def _loss(output: Tensor, target: Tensor, sites: int, mean: float, factor: float) -> tuple[Tensor, Tensor]:
    """Losses and derivative: cross-entropies of so many sites, or squared errors of none."""
    output, target = output.data.contiguous(), target.contiguous()
    losses, derivative = output.new_empty(len(output)), torch.empty_like(output)
    rows, outputs = output.shape
    function("loss", output.dtype)(
        *(ctypes.c_int64(number) for number in (rows, len(target), outputs, sites)),
        *(ctypes.c_void_p(address(tensor)) for tensor in (output, target, losses, derivative)),
        *(ctypes.c_double(mean), ctypes.c_double(factor), ctypes.c_int64(torch.get_num_threads())),
    )
    return losses, derivative
