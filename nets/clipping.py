"""Clipping of gradients by their joint norm, as torch does it; of stacks, of each member by its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.nets.per_member import PerMember, to_rows

_LITTLE = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to a norm before it divides by it."""


def clipped(
    gradients: Sequence[Tensor], largest: float | Tensor, norm: Tensor | None = None
) -> Sequence[Tensor]:
    """Clip gradients as torch.nn.utils.clip_grad_norm_ does, without synchronising host and device.

    Args:
        gradients: The gradients, bit-identical where their norm is smaller.
        largest: The largest joint norm.
        norm: That of all gradients that are clipped together, []; None: of these.
    """
    norm = norms_of(gradients, by_member=False).norm() if norm is None else norm
    return torch._foreach_mul(list(gradients), (largest / (norm + _LITTLE)).clamp(max=1.0))


def norms_of(gradients: Sequence[Tensor], *, by_member: bool) -> Tensor:
    """Return the norm of each of P gradients, [P]; `by_member`: of gradients [N, …], [P, N]."""
    return torch.stack([*map(_by_member, gradients)] if by_member else torch._foreach_norm([*gradients]))


def _by_member(gradient: Tensor) -> Tensor:
    if gradient.ndim == 1:
        return gradient.abs()
    norms: Tensor = torch.linalg.vector_norm(gradient, dim=tuple(range(1, gradient.ndim)))
    return norms


def clipped_each(gradients: Sequence[Tensor], largest: PerMember, norm: Tensor | None = None) -> list[Tensor]:
    """Return gradients [N, …] of which each member's are clipped to a joint norm, as by `clipped`; `norm`: [N] there."""
    norm = norms_of(gradients, by_member=True).norm(dim=0) if norm is None else norm
    factor = (to_rows(largest, norm) / (norm + _LITTLE)).clamp(max=1.0)
    return [g * factor.view(-1, *[1] * (g.ndim - 1)) for g in gradients]
