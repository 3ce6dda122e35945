"""Alignment: how like a synthetic gradient is to what came back. A caution, never a control."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["alignment"]

_TINY = 1e-12


def alignment(synthetic: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Return scalar tensors comparing gradients [B, M].

    Returns:
        `cosine`: mean over samples whose true gradient exceeds 1e-12; `norm_ratio`: |synthetic| / |true| over
        the batch; `r2`: 1 - residual / |true - mean|^2. NaN where the true gradient is nothing (for `r2`:
        the same in every sample).
    """
    dots = (synthetic * true).sum(1)
    norms, lengths = synthetic.norm(dim=1), true.norm(dim=1)
    alive = lengths > _TINY
    each = dots / norms.clamp_min(_TINY) / lengths.clamp_min(_TINY)
    spread = (true - true.mean(0)).square().sum()
    return {
        "cosine": each.where(alive, each.new_zeros(())).sum() / alive.sum(),
        "norm_ratio": (synthetic.norm() / true.norm()).where(alive.any(), math.nan),
        "r2": (1 - (true - synthetic).square().sum() / spread).where(spread > 0, math.nan),
    }
