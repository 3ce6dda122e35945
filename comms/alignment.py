"""Alignment: how like a synthetic gradient is to what came back. A caution, never a control."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["alignment"]

_TINY = 1e-12


def alignment(synthetic: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Return scalar tensors comparing gradients per sample, [B, M].

    The mean squared error of the synthetic gradient is `bias2 + variance`: an error that is the same in every
    sample turns what the sender learns, one that differs between samples mostly averages out.

    Returns:
        `cosine`: mean over samples whose true gradient exceeds 1e-12; `pooled_cosine`: of the two batches, each
        as one long vector, so that samples weigh as much as their gradients; `norm_ratio`: |synthetic| / |true|
        over the batch; `r2`: 1 - residual / |true - mean|^2; `bias2`: |mean(synthetic - true)|^2 over the batch;
        `variance`: the rest of the mean squared error. NaN where the true gradient is nothing (for `r2`: the
        same in every sample; `bias2` and `variance` always are numbers).
    """
    dots = (synthetic * true).sum(1)
    norms, lengths = synthetic.norm(dim=1), true.norm(dim=1)
    alive = lengths > _TINY
    each = dots / norms.clamp_min(_TINY) / lengths.clamp_min(_TINY)
    spread = (true - true.mean(0)).square().sum()
    error = synthetic - true
    pooled = dots.sum() / synthetic.norm().clamp_min(_TINY) / true.norm().clamp_min(_TINY)
    mean = error.mean(0)
    return {
        "cosine": each.where(alive, each.new_zeros(())).sum() / alive.sum(),
        "pooled_cosine": pooled.where(alive.any(), math.nan),
        "norm_ratio": (synthetic.norm() / true.norm()).where(alive.any(), math.nan),
        "r2": (1 - error.square().sum() / spread).where(spread > 0, math.nan),
        "bias2": mean.square().sum(),
        "variance": (error - mean).square().sum() / max(len(error), 1),
    }
