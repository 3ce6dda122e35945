"""Alignment: how like a synthetic gradient is to what came back. A caution, never a control."""

from __future__ import annotations

from torch import Tensor

__all__ = ["alignment"]

_TINY = 1e-12


def alignment(synthetic: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Return scalar tensors comparing gradients [B, M].

    Returns:
        `cosine`: mean over samples whose true gradient exceeds 1e-12; `norm_ratio`: |synthetic| / |true| over
        the batch; `r2`: 1 - residual / |true - mean|^2. NaN where the true gradient is nothing.
    """
    dots = (synthetic * true).sum(1)
    norms, lengths = synthetic.norm(dim=1), true.norm(dim=1)
    alive = lengths > _TINY
    each = dots / (norms * lengths).clamp_min(_TINY)
    spread = (true - true.mean(0)).square().sum()
    return {
        "cosine": each.where(alive, each.new_zeros(())).sum() / alive.sum(),
        "norm_ratio": synthetic.norm() / true.norm(),
        "r2": 1 - (true - synthetic).square().sum() / spread,
    }
