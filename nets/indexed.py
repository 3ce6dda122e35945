"""Rows of a tensor by index, and rows added by index, to the same bits in every run.

On a GPU torch's `index_add`, which is also the derivative of its `index_select`, adds numbers in the order in which threads come
to them, another one in every run. `index_put` sorts them by index first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def select(values: Tensor, index: Tensor) -> Tensor:
    """Return `values[index]`, [K, …] of [N, …]; gradients of a row that is selected several times are added by `add`."""
    if values.device.type == "cpu" or not values.requires_grad:
        return values.index_select(0, index)
    selected: Tensor = _Select.apply(values, index)  # type: ignore[no-untyped-call]
    return selected


def add(total: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Return `total`, [N, …], to which each of `rows`, [K, …], is added at its index, those of one index in their order."""
    if total.device.type == "cpu":
        return total.index_add(0, index, rows)
    return total.index_put((index,), rows, accumulate=True)


class _Select(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor) -> Tensor:
        ctx.index, ctx.count = index, len(values)
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return add(gradient.new_zeros(ctx.count, *gradient.shape[1:]), ctx.index, gradient), None
