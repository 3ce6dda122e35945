"""Running statistics of observations, by which they enter a network with mean 0 and deviation 1 (semantics 45).

Cumulative moments of each component, as in Gymnasium's `NormalizeObservation`: Chan, Golub & LeVeque 1979, "Updating formulae and
a pairwise algorithm for computing sample variances". Shapes: N members, n components of an observation.
"""

from __future__ import annotations

import torch
from torch import Tensor

OF_NETWORKS = "observes"
"""Prefix of the names of statistics of what a network observes; the place of the observation follows after a dot."""
OF_CRITICS = "critic_observes"
"""Prefix of the names of statistics of what a critic observes."""
MOST = 10.0
"""Largest normalised value; larger ones are clipped, as in Stable-Baselines3's `VecNormalize`."""
_LEAST_VARIANCE = 1e-30


def initial(components: int) -> Tensor:
    """Return statistics before the first observation, [1 + 2n]: count 0, means 0, variances 1."""
    return torch.cat([torch.zeros(1 + components), torch.ones(components)])


def merged(statistics: Tensor, values: Tensor, missing: Tensor | None = None) -> Tensor:
    """Return statistics with the observations of a tick, [N, 1 + 2n]; a member's are kept where they would not be finite.

    Args:
        statistics: Before it, [N, 1 + 2n].
        values: [N, samples, n].
        missing: [N, samples] bool: those that do not count; None: all count.
    """
    count, mean, variance = _split(statistics.double())
    more, of_values, spread = _moments(values, missing)
    share, change = more / (count + more).clamp(min=1), of_values - mean
    variance = (1 - share) * (variance + share * change.square()) + share * spread
    after = torch.cat([count + more, mean + share * change, variance], 1).to(statistics.dtype)
    return torch.where(after.isfinite().all(1, keepdim=True), after, statistics)


def _moments(values: Tensor, missing: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Number of samples [N, 1], their means and their variances [N, n] each; zeros for whom all is missing."""
    exact = values.double()
    if missing is None:
        count = torch.full_like(exact[:, 0, :1], exact.shape[1])
        return count, exact.mean(1), exact.var(1, correction=0)
    present = torch.logical_not(missing).unsqueeze(2)
    count = present.sum(1).to(exact.dtype)
    number, nothing = count.clamp(min=1), torch.zeros_like(exact)
    mean = exact.where(present, nothing).sum(1) / number
    return count, mean, (exact - mean.unsqueeze(1)).square().where(present, nothing).sum(1) / number


def mean_and_deviation(statistics: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means and the deviations of the components, [N, n] each.

    What varies by less than the resolution of its type is a constant, whose rounding is not enlarged.
    """
    _, mean, variance = _split(statistics)
    resolution = 8 * torch.finfo(mean.dtype).eps * mean
    return mean, (variance + resolution.square() + _LEAST_VARIANCE).sqrt()


def normalised(values: Tensor, statistics: Tensor) -> Tensor:
    """Return values [rows, …] of N members in units of their deviations from their means, within ±10.

    Args:
        values: Rows are (member, environment), [N * B, …].
        statistics: [N, 1 + 2n].
    """
    mean, deviation = (moment.unsqueeze(1) for moment in mean_and_deviation(statistics))
    deviations = (values.reshape(len(statistics), -1, mean.shape[2]) - mean) / deviation
    return deviations.clamp(-MOST, MOST).reshape(values.shape)


def _split(statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    components = statistics.shape[1] // 2
    count, mean, variance = torch.split(statistics, [1, components, components], 1)
    return count, mean, variance
