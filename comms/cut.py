"""The only place where gradients are cut: what crosses a border, and how.

The meaning of a coupling is read here and in `credit.py`. Elsewhere numbers are copied (initial values, checkpoints), but no
path of a gradient is cut.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["as_leaf", "constant", "value_of"]


def value_of(message: Tensor) -> Tensor:
    """Return what is sent, flat [B, size]: the numbers of a message, without the sender's graph."""
    return message.detach().flatten(1)


def as_leaf(message: Tensor) -> Tensor:
    """Return a copy-free leaf of `message` that the receiver can differentiate without reaching the sender."""
    return message.detach().requires_grad_()


def constant(tensor: Tensor) -> Tensor:
    """Return `tensor` as numbers: a loss to be shown, or credit that is dropped on purpose."""
    return tensor.detach()
