"""Numbers of a stack: one for all members, or a tensor [N] with a number for each where they differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PerMember = float | Tensor
"""A number for all members, or [N] float64 on the host, one for each."""


def nonzero(number: PerMember) -> bool:
    """Whether a number is not 0; among numbers that differ none is, where 0 is computed in another way."""
    return isinstance(number, Tensor) or number != 0


def to_rows(number: PerMember, like: Tensor, dim: int = 0) -> Any:
    """Broadcast a number per member, [N], to the rows of `like`, [N * B, …] or at `dim`; one for all is unchanged."""
    if not isinstance(number, Tensor):
        return number
    rows = number.to(like.device, like.dtype).repeat_interleave(like.shape[dim] // len(number))
    return rows.view(-1, *[1] * (like.dim() - 1 - dim))


def scaled(rows: Tensor, number: PerMember, dim: int = 0) -> Tensor:
    """Return rows times a number; the tensor itself where that is 1 for all. For the arguments see `to_rows`."""
    if not isinstance(number, Tensor) and number == 1:
        return rows
    return torch.mul(rows, to_rows(number, rows, dim))
