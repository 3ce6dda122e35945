"""Statistics over seeds and repeats: means, interquartile means, paired contrasts and ratios, each with its 95 % interval.

The interquartile mean (IQM) is the mean of the middle half: robust against outlying seeds, and unlike
the median it uses half of the values. Agarwal et al., "Deep Reinforcement Learning at the Edge of
the Statistical Precipice", NeurIPS 2021.

*Recovered* is the share of backpropagation's gain that a variant reaches: (variant - detached) / (locked - detached), in the
readout's metric, turned so that more is better (semantics 35).

Pure functions of numbers, without torch. All bootstraps use the same 10,000 resamples in every call.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FEWEST = 5
"""Least seeds for the interquartile mean: with fewer it would be the value of one or two seeds."""
_FEW_SEEDS = 2
"""Seeds whose interval rests on a single difference."""
_RESAMPLES = 10_000
_TAILS = (0.025, 0.975)
_Z = 1.96
_T: tuple[float, ...] = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Quantiles of Student's t distribution by degrees of freedom, from 1."""
ERRORS = 3.0
"""A ratio is defined if its denominator is above zero by this many standard errors (semantics 35)."""


def of_few_seeds(counts: Iterable[int]) -> list[str]:
    """Return the line, if it applies, that an interval among those of so many seeds each rests on two."""
    line = "An interval of two seeds rests on the one difference between them: take --seeds 5."
    return [line] if _FEW_SEEDS in counts else []


Worth = Literal["helps", "harms", "unresolved"]
"""One word for the worth of a channel, by the sign of an interval (`worth`)."""


def worth(low: float, high: float) -> Worth:
    """Return one word for a 95 % interval of what a channel is worth: "helps" above 0, "harms" below 0, else "unresolved"."""
    return "helps" if low > 0 else "harms" if high < 0 else "unresolved"


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval and its standard deviation over seeds, if they are defined."""

    value: float
    low: float | None = None
    high: float | None = None
    sd: float | None = None


@dataclass(frozen=True)
class Contrast:
    """The difference between locked and detached.

    Attributes:
        difference: locked - detached.
        error: Its standard error: over seeds (paired), or over the test split for a single seed; None: unknown.
    """

    difference: float
    error: float | None

    @property
    def resolved(self) -> bool:
        """Whether the difference exceeds three standard errors; otherwise *recovered* is undefined."""
        return self.error is not None and self.difference > ERRORS * self.error


@dataclass(frozen=True)
class Ratio:
    """A ratio of means with its 95 % interval.

    Attributes:
        value: mean(parts) / mean(wholes); None where the wholes are within three standard errors of zero.
        low: Lower end of the interval; None without a value.
        high: Upper end.
        denominator: mean(wholes).
        error: Its standard error.
    """

    value: float | None
    low: float | None
    high: float | None
    denominator: float
    error: float


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of a mean of at least two values."""
    return statistics.stdev(values) / math.sqrt(len(values))


def student_t(freedom: int) -> float:
    """Return the quantile of Student's t distribution that leaves 2.5 % in each tail, to three decimals."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    first, second = (_Z**3 + _Z) / 4, (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    return _Z + first / freedom + second / freedom**2  # Cornish and Fisher's expansion


def mean(values: Sequence[float], examples: int | None = None, *, share: bool = True) -> Estimate:
    """Return a mean with its interval: Student's t over seeds, or for one seed Wilson's of the split.

    Args:
        values: One value per seed; at least one.
        examples: Examples in the split that was evaluated.
        share: Whether values are shares of examples: then the interval is clipped to [0, 1].
            For other metrics a single seed has no interval.
    """
    centre = statistics.fmean(values)
    if len(values) > 1:
        half = student_t(len(values) - 1) * standard_error(values)
        low, high = centre - half, centre + half
        if share:
            low, high = max(low, 0.0), min(high, 1.0)
        return Estimate(centre, low, high, statistics.stdev(values))
    if not examples or not share:
        return Estimate(centre)
    weight = _Z**2 / examples
    middle = (centre + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(centre * (1 - centre) / examples + weight / (4 * examples))
    return Estimate(centre, middle - half, middle + half)


def seed_statistics(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return `mean` with its standard `error`, `median`, interquartile mean (`iqm`) with the ends `low` and `high` of its 95 %
    interval, and `n`, of at least one value per seed; a single seed has neither error nor interval.
    """
    several = len(values) > 1
    low, high = bootstrap(values) if several else (None, None)
    return {
        "mean": statistics.fmean(values),
        "error": standard_error(values) if several else None,
        "median": statistics.median(values),
        "iqm": interquartile_mean(values),
        "low": low,
        "high": high,
        "n": len(values),
    }


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean of the middle half; values on its edge count in part.

    Of five sorted values, the second and fourth count 3/4 each, the third fully.
    """
    return float(np.sort(np.asarray(values, dtype=np.float64)) @ _weights(len(values)))


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the interquartile mean of at least one value per seed; seeds are resampled."""
    chosen = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    resampled = np.sort(np.asarray(values, dtype=np.float64)[chosen], axis=1)
    return _interval(resampled @ _weights(len(values)))


def contrast(
    locked: Mapping[int, float], detached: Mapping[int, float], examples: int | None = None
) -> Contrast | None:
    """Return the difference between locked and detached; None if they share no seed.

    Args:
        locked: Metric by seed; higher is better.
        detached: Metric by seed; higher is better.
        examples: Examples in the evaluated split, if the metric is a share of them; else None.
    """
    seeds = sorted(locked.keys() & detached.keys())
    if not seeds:
        return None
    gaps = [locked[seed] - detached[seed] for seed in seeds]
    if len(seeds) > 1:
        return Contrast(statistics.fmean(gaps), standard_error(gaps))
    if not examples:
        return Contrast(gaps[0], None)
    variance = sum(p * (1 - p) / examples for p in (locked[seeds[0]], detached[seeds[0]]))
    return Contrast(gaps[0], math.sqrt(variance))


def recovered(
    variant: Mapping[int, float], locked: Mapping[int, float], detached: Mapping[int, float]
) -> Estimate | None:
    """Return (variant - detached) / (locked - detached) of the means, with a bootstrap interval.

    Seeds are resampled together in all three (paired). `Contrast.resolved` decides whether the ratio is defined.

    Args:
        variant: Metric by seed; higher is better.

    Returns:
        None if the three share no seed, or locked is not above detached.
    """
    seeds = sorted(variant.keys() & locked.keys() & detached.keys())
    if not seeds:
        return None
    gain = np.array([variant[seed] - detached[seed] for seed in seeds])
    full_gain = np.array([locked[seed] - detached[seed] for seed in seeds])
    if full_gain.mean() <= 0:
        return None
    value = float(gain.mean() / full_gain.mean())
    if len(seeds) == 1:
        return Estimate(value)
    chosen = np.random.default_rng(0).integers(len(seeds), size=(_RESAMPLES, len(seeds)))
    gains, wholes = gain[chosen].mean(axis=1), full_gain[chosen].mean(axis=1)
    return Estimate(value, *_interval(gains[wholes > 0] / wholes[wholes > 0]))


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> Ratio:
    """Return the ratio of two means over repeats that were measured in pairs.

    The interval is Student's t of the residuals part - value * whole (the delta method): its length is zero
    if parts are a fixed share of wholes, however these vary.

    Args:
        parts: One value per repeat; at least two.
        wholes: One value per repeat. The ratio is undefined unless their mean exceeds three standard errors.
    """
    numerator, denominator, error = statistics.fmean(parts), statistics.fmean(wholes), standard_error(wholes)
    if not denominator > ERRORS * error:
        return Ratio(None, None, None, denominator, error)
    value = numerator / denominator
    residuals = [p - value * w for p, w in zip(parts, wholes, strict=True)]
    half = student_t(len(parts) - 1) * standard_error(residuals) / denominator
    return Ratio(value, value - half, value + half, denominator, error)


def _interval(resampled: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(resampled, _TAILS)
    return float(low), float(high)


def _weights(count: int) -> NDArray[np.float64]:
    """Return the weights of sorted values, [count]: their shares of the middle half of [0, 1]."""
    edges = np.arange(count + 1) / count
    within = np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25)
    weights: NDArray[np.float64] = np.maximum(within, 0.0) / 0.5
    return weights
