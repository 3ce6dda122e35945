"""Alignment: comparison of synthetic and returned gradients. A diagnostic, never a control."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TINY = 1e-12


def alignment(synthetic: Tensor, true: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
    """Return statistics [...] that compare gradients per sample, [..., B, M].

    The mean squared error of the synthetic gradient is `bias2 + variance`: an error that is the same in every
    sample biases the sender's update, one that differs between samples mostly averages out.

    Args:
        synthetic: [..., B, M].
        true: [..., B, M], the returned gradients.
        valid: [..., B] bool: the samples that count; None: all.

    Returns:
        `cosine`: mean over samples whose true gradient exceeds 1e-12; `pooled_cosine`: cosine of the two batches, each
        flattened to one vector, so that samples are weighted by gradient norm; `norm_ratio`: |synthetic| / |true|
        over the batch; `r2`: 1 - residual / |true - mean|^2; `bias2`: |mean(synthetic - true)|^2 over the batch;
        `variance`: the rest of the mean squared error. NaN where the true gradient is zero (`r2`: where it is the
        same in every sample; `bias2` and `variance` are defined wherever a sample counts).
    """
    if valid is None:
        valid = true.new_ones(true.shape[:-1], dtype=torch.bool)
    counts = valid.unsqueeze(-1)
    zero = true.new_zeros(())
    synthetic, true = synthetic.where(counts, zero), true.where(counts, zero)
    dots = (synthetic * true).sum(-1)
    norms, lengths = synthetic.norm(dim=-1), true.norm(dim=-1)
    alive = lengths > _TINY
    any_alive = alive.any(-1)
    cosines = dots / norms.clamp_min(_TINY) / lengths.clamp_min(_TINY)
    synthetic_norm, true_norm = norms.norm(dim=-1), lengths.norm(dim=-1)
    error = synthetic - true
    squared = error.square().sum((-2, -1))
    total = (true - _mean(true, counts)).where(counts, zero).square().sum((-2, -1))
    mean = _mean(error, counts)
    residual = (error - mean).where(counts, zero).square().sum((-2, -1))
    pooled = dots.sum(-1) / synthetic_norm.clamp_min(_TINY) / true_norm.clamp_min(_TINY)
    return {
        "cosine": cosines.where(alive, zero).sum(-1) / alive.sum(-1),
        "pooled_cosine": pooled.where(any_alive, math.nan),
        "norm_ratio": (synthetic_norm / true_norm).where(any_alive, math.nan),
        "r2": (1 - squared / total).where(total > 0, math.nan),
        "bias2": mean.square().sum((-2, -1)),
        "variance": residual / valid.sum(-1).clamp_min(1),
    }


def _mean(rows: Tensor, counts: Tensor) -> Tensor:
    """Return the mean [..., 1, M] over the rows that count; rows that do not are zero."""
    return rows.sum(-2, keepdim=True) / counts.sum(-2, keepdim=True)
