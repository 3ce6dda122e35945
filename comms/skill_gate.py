"""Gates: a synthetic gradient is applied as far as it has predicted, on messages that its predictor had not learned from.

Where a receiver acts, what comes back is mostly noise, and so is a prediction that was fitted to it. Injected, it would move the
sender at full speed, since an adaptive optimiser undoes any small factor, and the receiver could not follow. So a prediction
whose skill is not beyond chance is not applied at all, and any other is shrunk to what it is certainly worth.

All comparisons of a step are one: of predictions p and gradients g of n samples, with `<p, g>` their inner product over all
samples, `c = <p, g> / (|p| |g|)` is the cosine and `r = |p| / |g|` the ratio of norms, and c / r is the factor that makes
the predictions least wrong. A cosine is noisy, so that its running mean counts; a ratio is not, so that the newest does. The
samples' shares of c are independent of each other: the running sum of their squares is the variance of the sum of cosines
where the prediction is noise.

A gate is five sums, [5] float64, or [K, 5] of K stacked predictors: running sums of cosines, of their variance and of ones, the
newest ratio, and 1 where it is open. They are a buffer of the predictor (`Predictor.see`), zeros at first: the gate is shut.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MEMORY = 0.98
"""Weight of an earlier comparison against the next: predictor and receiver change, and about the last fifty count."""
_ERRORS = 2.5
"""Standard errors less which the cosine is certain, where a gate opens: noise is as good at six steps of a thousand."""
_LEAST = 0.02
"""Factor from which a prediction is applied: with less, nearly all that moves the sender is noise."""


def compared(sums: Tensor, samples: Tensor) -> Tensor:
    """Return the sums after one more comparison; they stay where nothing came back, or zero was predicted.

    Args:
        samples: `<p, g>`, |p|² and |g|² of each sample, [3, rows], summed over the messages; rows are B, or K * B.
    """
    products, squares, returned = samples.view(3, *sums.shape[:-1], -1).double()
    scale = (squares.sum(-1) * returned.sum(-1)).sqrt()
    shares = products / scale.unsqueeze(-1)
    new = [shares.sum(-1), shares.square().sum(-1), torch.ones_like(scale)]
    cosine, variance, count, _, was_open = sums.unbind(-1)
    decayed = cosine * _MEMORY, variance * _MEMORY**2, count * _MEMORY
    cosine, variance, count = (before + now for before, now in zip(decayed, new, strict=True))
    ratio = squares.sum(-1) / scale
    # it opens where skill is certain, and shuts where it is gone
    errors = torch.where(was_open > 0, 0.0, _ERRORS)
    certain = (cosine - errors * variance.sqrt()) / (count * ratio)
    after = torch.stack([cosine, variance, count, ratio, (certain >= _LEAST).double()], -1)
    return torch.where(((scale > 0) & after.isfinite().all(-1)).unsqueeze(-1), after, sums)


def factors(sums: Tensor) -> Tensor:
    """Return by what predictions are multiplied, from 0 to 1, [K] float64; 0 where a gate is shut."""
    cosine, _, count, ratio, is_open = sums.view(-1, 5).unbind(-1)
    return torch.where(is_open > 0, cosine / (count * ratio), 0.0).clamp(max=1.0)


def skill(sums: Tensor) -> Tensor:
    """Return the standard errors by which the running cosine is above zero, [K]; 0 before the first comparison."""
    cosine, variance, *_ = sums.view(-1, 5).unbind(-1)
    return torch.where(variance > 0, cosine / variance.sqrt(), 0.0)
