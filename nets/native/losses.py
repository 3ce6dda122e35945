"""Losses with their derivatives, computed by the native kernel or, without it, by torch.

The kernel's operators are registered as `torch.ops.antiphon.squared_error` and `cross_entropy`, for the CPU; as in `mlp.py`, the
functions here call what is behind them. Shapes: B rows, O outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from antiphon.nets.native import by_kernel, written_out
from antiphon.nets.native.library import kernel

__all__ = ["cross_entropy", "squared_error"]

_LIBRARY: Any = torch.library.Library("antiphon", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("squared_error(Tensor output, Tensor target, float mean, float factor) -> (Tensor, Tensor)")
_LIBRARY.define("cross_entropy(Tensor output, Tensor target, float factor) -> (Tensor, Tensor)")


def squared_error(output: Tensor, target: Tensor, mean: float, factor: float) -> tuple[Tensor, Tensor]:
    """Return the squared errors, times `mean`, [B], and `factor` times the derivative of their sum.

    Args:
        output: [B, O].
        target: [B, O]; of fewer rows, these repeat.
        mean: 1 / O for the average over components, 1 for their sum.
        factor: Of the derivative.
    """
    if kernel() is None:
        return written_out.squared_error(output.data.contiguous(), target, mean, factor)
    return _squared_error(output.data, target, mean, factor)


def cross_entropy(output: Tensor, target: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return -log p(target), averaged over the sites S, [B], and `factor` times the derivative of their sum.

    Args:
        output: [B, S * classes].
        target: Integers, [B, …] with S numbers for each row; of fewer rows, these repeat.
        factor: Of the derivative.
    """
    if kernel() is None:
        return written_out.cross_entropy(output.data.contiguous(), target, factor)
    return _cross_entropy(output.data, target, factor)


def _squared_error(output: Tensor, target: Tensor, mean: float, factor: float) -> tuple[Tensor, Tensor]:
    output = output.contiguous()
    found = output.new_empty(len(output)), torch.empty_like(output)
    by_kernel.squared_error(output, target.contiguous(), mean, factor, *found)
    return found


def _cross_entropy(output: Tensor, target: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    output = output.contiguous()
    found = output.new_empty(len(output)), torch.empty_like(output)
    by_kernel.cross_entropy(output, target.contiguous(), factor, *found)
    return found


_LIBRARY.impl("squared_error", _squared_error, "CPU")
_LIBRARY.impl("cross_entropy", _cross_entropy, "CPU")
