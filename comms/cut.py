"""Gradient cuts: the only module that detaches tensors.

The meaning of a coupling is defined here and in `credit.py`. Elsewhere values are copied (initial parameters,
checkpoints), but no gradient path is cut.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["as_leaf", "constant", "value_of"]


def value_of(message: Tensor) -> Tensor:
    """Return the values of a message, flat [B, size], without the sender's graph."""
    return message.detach().flatten(1)


def as_leaf(message: Tensor) -> Tensor:
    """Return a copy-free leaf of `message` that the receiver can differentiate without reaching the sender."""
    return message.detach().requires_grad_()


def constant(tensor: Tensor) -> Tensor:
    """Return `tensor` without its graph: a loss to be logged, or credit that is dropped on purpose."""
    return tensor.detach()
