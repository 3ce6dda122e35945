"""Losses with their derivatives, computed by the native kernel. Shapes: B rows, O outputs."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from antiphon.nets.native.library import address, function

__all__ = ["cross_entropy", "squared_error"]


def squared_error(output: Tensor, target: Tensor, mean: float, factor: float) -> tuple[Tensor, Tensor]:
    """Return the squared errors, times `mean`, [B], and `factor` times the derivative of their sum.

    Args:
        output: [B, O].
        target: [B, O]; of fewer rows, these repeat.
        mean: 1 / O for the average over components, 1 for their sum.
        factor: Of the derivative.
    """
    return _loss(output, target, 0, mean, factor)


def cross_entropy(output: Tensor, target: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return -log p(target), averaged over the sites S, [B], and `factor` times the derivative of their sum.

    Args:
        output: [B, S * classes].
        target: Integers, [B, …] with S numbers for each row; of fewer rows, these repeat.
        factor: Of the derivative.
    """
    return _loss(output, target, target[0].numel(), 1.0, factor)


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
