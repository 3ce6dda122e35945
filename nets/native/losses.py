"""Losses with their derivatives, computed by the native kernel.

The operators are registered as `torch.ops.antiphon.squared_error` and `cross_entropy`, for the CPU. Shapes: B rows, O
outputs.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from antiphon.nets.native.library import address, function

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
    found: tuple[Tensor, Tensor] = torch.ops.antiphon.squared_error(output, target, mean, factor)
    return found


def cross_entropy(output: Tensor, target: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return -log p(target), averaged over the sites S, [B], and `factor` times the derivative of their sum.

    Args:
        output: [B, S * classes].
        target: Integers, [B, …] with S numbers for each row; of fewer rows, these repeat.
        factor: Of the derivative.
    """
    found: tuple[Tensor, Tensor] = torch.ops.antiphon.cross_entropy(output, target, factor)
    return found


def _call(output: Tensor, target: Tensor, sites: int, mean: float, factor: float) -> tuple[Tensor, Tensor]:
    output, target = output.contiguous(), target.contiguous()
    rows, outputs = output.shape
    losses, derivative = output.new_empty(rows), torch.empty_like(output)
    function("loss", output.dtype)(
        *(ctypes.c_int64(number) for number in (rows, len(target), outputs, sites)),
        *(ctypes.c_void_p(address(tensor)) for tensor in (output, target, losses, derivative)),
        *(ctypes.c_double(mean), ctypes.c_double(factor), ctypes.c_int64(torch.get_num_threads())),
    )
    return losses, derivative


def _squared_error(output: Tensor, target: Tensor, mean: float, factor: float) -> tuple[Tensor, Tensor]:
    return _call(output, target, 0, mean, factor)


def _cross_entropy(output: Tensor, target: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    return _call(output, target, target[0].numel(), 1.0, factor)


_LIBRARY.impl("squared_error", _squared_error, "CPU")
_LIBRARY.impl("cross_entropy", _cross_entropy, "CPU")
