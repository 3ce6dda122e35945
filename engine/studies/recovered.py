"""Statistics of a study: means with intervals, and *recovered*, what a variant regains of backpropagation's gain.

recovered = (variant - detached) / (locked - detached), in the readout's metric, turned so that more is better
(semantics 35). Pure functions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Contrast", "Estimate", "contrast", "mean", "recovered"]

_T: tuple[float, ...] = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Student's t by degrees of freedom, from 1: what leaves 2.5 % in each tail."""
_Z = 1.96
_RESAMPLES = 10_000
_ERRORS = 3.0
"""How many standard errors locked has to lie above detached for a ratio to be printed."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: The number.
        low: Lower end; None where one seed tells nothing of the spread.
        high: Upper end.
        sd: Standard deviation over seeds; None for one seed.
    """

    value: float
    low: float | None = None
    high: float | None = None
    sd: float | None = None


@dataclass(frozen=True)
class Contrast:
    """How far locked lies above detached.

    Attributes:
        difference: locked - detached.
        error: Its standard error: over seeds (paired), or of the test split where there is one seed.
    """

    difference: float
    error: float

    @property
    def resolved(self) -> bool:
        """Whether the difference exceeds three standard errors; else *recovered* is undefined."""
        return self.difference > _ERRORS * self.error


def mean(values: Sequence[float], examples: int | None = None, *, share: bool = True) -> Estimate:
    """Return a mean with its interval: Student's t over seeds, or for one seed Wilson's of the split.

    Args:
        values: One figure per seed; at least one.
        examples: In the split that was scored.
        share: Whether figures are shares of examples: then ends that lie outside of [0, 1] are moved to it.
            Other figures of one seed have no interval.
    """
    centre = statistics.fmean(values)
    if len(values) > 1:
        sd = statistics.stdev(values)
        freedom = len(values) - 1
        quantile = _T[freedom - 1] if freedom <= len(_T) else _Z + 2.4 / freedom
        half = quantile * sd / math.sqrt(len(values))
        low, high = centre - half, centre + half
        return Estimate(centre, max(low, 0.0) if share else low, min(high, 1.0) if share else high, sd)
    if not examples or not share:
        return Estimate(centre)
    weight = _Z**2 / examples
    middle = (centre + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(centre * (1 - centre) / examples + weight / (4 * examples))
    return Estimate(centre, middle - half, middle + half)


def contrast(
    locked: Mapping[int, float], detached: Mapping[int, float], examples: int | None = None
) -> Contrast | None:
    """Return how far locked lies above detached; None where they share no seed.

    Args:
        locked: Figure by seed, where more is better.
        detached: Likewise.
        examples: In the split that was scored, where figures are shares of them; else None.
    """
    seeds = sorted(locked.keys() & detached.keys())
    if not seeds:
        return None
    gaps = [locked[seed] - detached[seed] for seed in seeds]
    if len(seeds) > 1:
        return Contrast(statistics.fmean(gaps), statistics.stdev(gaps) / math.sqrt(len(seeds)))
    if not examples:
        return Contrast(gaps[0], math.inf)
    variance = sum(p * (1 - p) / examples for p in (locked[seeds[0]], detached[seeds[0]]))
    return Contrast(gaps[0], math.sqrt(variance))


def recovered(
    variant: Mapping[int, float], locked: Mapping[int, float], detached: Mapping[int, float]
) -> Estimate | None:
    """Return (variant - detached) / (locked - detached) of the means, with a bootstrap interval.

    Seeds are resampled together in all three (paired), 10,000 times with the same random numbers always. Whether
    the ratio may be printed is `Contrast.resolved`'s to say.

    Args:
        variant: Figure by seed, where more is better.
        locked: Likewise.
        detached: Likewise.

    Returns:
        None where the three share no seed, or locked does not lie above detached.
    """
    seeds = sorted(variant.keys() & locked.keys() & detached.keys())
    if not seeds:
        return None
    gain = np.array([variant[seed] - detached[seed] for seed in seeds])
    whole = np.array([locked[seed] - detached[seed] for seed in seeds])
    if whole.mean() <= 0:
        return None
    value = float(gain.mean() / whole.mean())
    if len(seeds) == 1:
        return Estimate(value)
    participates = np.random.default_rng(0).integers(len(seeds), size=(_RESAMPLES, len(seeds)))
    gains, wholes = gain[participates].mean(axis=1), whole[participates].mean(axis=1)
    ratios = gains[wholes > 0] / wholes[wholes > 0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
