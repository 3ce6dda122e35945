"""The order in which a tensor's axes lie in memory, which saved tensors keep: sums, and so last bits, can depend on it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def memory_order(tensor: Tensor) -> list[int]:
    """Return the axes in whose order a tensor's memory is contiguous; empty: in their own, or in none."""
    if tensor.is_contiguous():
        return []
    strides = tensor.stride()
    axes = sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
    return axes if tensor.permute(axes).is_contiguous() else []


def with_memory_order(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """Return a tensor that has been permuted to `axes` with its own axes again; empty: it was not permuted."""
    return tensor.permute(sorted(range(tensor.ndim), key=lambda axis: axes[axis])) if axes else tensor
