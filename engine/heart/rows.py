"""Masks of the rows of a stack, (member, environment), and of its members.

A mask that is the same everywhere is a Python bool, so that the common cases (every environment, none) cost no tensor
operation; any other is a tensor of rows, [B] or [N * B] bool. Where each holds is said where it is a field (message.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

RowMask = bool | Tensor
"""All rows, none, or a mask [rows] bool."""


def mask_or(a: RowMask, b: RowMask) -> RowMask:
    """Union of two masks."""
    if a is True or b is True:
        return True
    if a is False:
        return b
    return a if b is False else torch.logical_or(a, b)


def mask_not(a: RowMask) -> RowMask:
    """Complement of a mask."""
    return torch.logical_not(a) if isinstance(a, Tensor) else not a


def mask_and(a: RowMask, b: RowMask) -> RowMask:
    """Intersection of two masks."""
    if a is False or b is False:
        return False
    if a is True:
        return b
    return a if b is True else torch.logical_and(a, b)


def simplify(mask: RowMask) -> RowMask:
    """A mask tensor that holds everywhere as True."""
    return True if isinstance(mask, Tensor) and bool(mask.all()) else mask


def mask_fill_zero(mask: RowMask, value: Tensor) -> Tensor:
    """`value` [rows, …], or [ticks, rows, …] as the mask, where it holds and zeros elsewhere; filled, never multiplied (NaN x 0 is NaN)."""
    if mask is True:
        return value
    if mask is False:
        return torch.zeros_like(value)
    assert isinstance(mask, Tensor)
    return torch.where(
        mask.view(*mask.shape, *([1] * (value.dim() - mask.dim()))), value, torch.zeros_like(value)
    )


# --- members of a stack ------------------------------------------------------------------------------------

Members = Tensor | None
"""[N] or [K] bool, on the CPU: some members of a stack; None: all."""


def members_and(a: Members, b: Members) -> Members:
    """The members that are in both."""
    if a is None or b is None:
        return a if b is None else b
    return a & b
