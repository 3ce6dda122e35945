"""Losses with their derivatives, computed by the native kernel. Shapes: B rows, O outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.nets.native import by_kernel

__all__ = ["cross_entropy", "squared_error"]


def squared_error(output: Tensor, target: Tensor, mean: float, factor: float) -> tuple[Tensor, Tensor]:
    """Return the squared errors, times `mean`, [B], and `factor` times the derivative of their sum.

    Args:
        output: [B, O].
        target: [B, O]; of fewer rows, these repeat.
        mean: 1 / O for the average over components, 1 for their sum.
        factor: Of the derivative.
    """
    output = output.data.contiguous()
    losses, derivative = output.new_empty(len(output)), torch.empty_like(output)
    by_kernel.squared_error(output, target.contiguous(), mean, factor, losses, derivative)
    return losses, derivative


def cross_entropy(output: Tensor, target: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return -log p(target), averaged over the sites S, [B], and `factor` times the derivative of their sum.

    Args:
        output: [B, S * classes].
        target: Integers, [B, …] with S numbers for each row; of fewer rows, these repeat.
        factor: Of the derivative.
    """
    output = output.data.contiguous()
    losses, derivative = output.new_empty(len(output)), torch.empty_like(output)
    by_kernel.cross_entropy(output, target.contiguous(), factor, losses, derivative)
    return losses, derivative
