"""Losses per sample, [B]; sums of them are divided by the whole batch.

Shapes: B batch; outputs and targets of N stacked networks are [N, B, …], and their losses [N, B].
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["binary_cross_entropy", "cross_entropy", "squared_error"]


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log p(target), [B], for logits [B, classes] and an integer target [B]."""
    if logits.dim() == 2:
        return F.cross_entropy(logits, target, reduction="none")
    flat = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return flat.view(target.shape)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log p(target), [B], summed over independent components, for logits [B, size] and a target of 0s and 1s [B, …]."""
    bits = target.reshape(logits.shape).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, bits, reduction="none").sum(-1)


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the squared error averaged over components, [B], for output [B, size] and target [B, …]."""
    return (output - target.reshape(output.shape)).square().mean(-1)
