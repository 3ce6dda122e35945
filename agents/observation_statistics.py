"""Running statistics of observations, by which they enter a network with mean 0 and deviation 1 (semantics 45).

Cumulative moments of each component, as in Gymnasium's `NormalizeObservation`: Chan, Golub & LeVeque 1979, "Updating formulae and
a pairwise algorithm for computing sample variances". Shapes: N members, n components of an observation.
"""

from __future__ import annotations

import torch
from torch import Tensor

OF_NETWORKS = "observes"
"""Prefix of the names of statistics of what a network, or a critic, observes; the place of the observation follows after a dot."""
OF_CRITICS = "critic_observes"
MOST = 10.0
"""Largest normalised value; larger ones are clipped, as in Stable-Baselines3's `VecNormalize`."""
_LEAST_VARIANCE = 1e-30


def initial(components: int) -> Tensor:
    """Return statistics before the first observation, [1 + 2n]: count 0, means 0, variances 1."""
    return torch.cat([torch.zeros(1 + components), torch.ones(components)])


def merged(statistics: Tensor, values: Tensor, missing: Tensor | None = None) -> Tensor:
    """Return statistics with the observations of a tick, [N, 1 + 2n]; a member's are kept where they would not be finite.

    Args:
        values: [N, samples, n].
        missing: [N, samples] bool: those that do not count; None: all count.
    """
    exact, (count, mean, variance) = values.double(), _split(statistics.double())
    absent = torch.zeros(exact.shape[:2], dtype=torch.bool) if missing is None else missing
    present = torch.logical_not(absent).unsqueeze(2).to(exact.device)
    more = present.sum(1).to(exact.dtype)
    of_values = exact.where(present, 0).sum(1) / more.clamp(min=1)
    spread = (exact - of_values.unsqueeze(1)).square().where(present, 0).sum(1) / more.clamp(min=1)
    share, change = more / (count + more).clamp(min=1), of_values - mean
    variance = (1 - share) * (variance + share * change.square()) + share * spread
    after = torch.cat([count + more, mean + share * change, variance], 1).to(statistics.dtype)
    return torch.where(after.isfinite().all(1, keepdim=True), after, statistics)


def normalised(values: Tensor, statistics: Tensor) -> Tensor:
    """Return values [rows, …] of N members in units of their deviations from their means, within ±10.

    What varies by less than the resolution of its type is a constant, whose rounding is not enlarged.

    Args:
        values: Rows are (member, environment), [N * B, …].
        statistics: [N, 1 + 2n].
    """
    _, mean, variance = _split(statistics.unsqueeze(1))
    resolution = 8 * torch.finfo(mean.dtype).eps * mean
    deviation = (variance + resolution.square() + _LEAST_VARIANCE).sqrt()
    deviations = (values.reshape(len(statistics), -1, mean.shape[2]) - mean) / deviation
    return deviations.clamp(-MOST, MOST).reshape(values.shape)


def _split(statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    components = statistics.shape[-1] // 2
    count, mean, variance = torch.split(statistics, [1, components, components], -1)
    return count, mean, variance
