"""Statistics over seeds and repeats: means and ratios of means, each with its 95 % interval.

*Recovered* is the share of backpropagation's gain that a variant reaches, a ratio: (variant - detached) / (locked - detached), in
the readout's metric, turned so that more is better (semantics 35).

Pure functions of numbers, without torch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_Z = 1.96
_T: tuple[float, ...] = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Quantiles of Student's t distribution by degrees of freedom, from 1."""
ERRORS = 3.0
"""A ratio is defined if its denominator is above zero by this many standard errors (semantics 35)."""


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


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean of at least one value per seed, with Student's interval; a single seed has none."""
    centre = statistics.fmean(values)
    if len(values) == 1:
        return Estimate(centre)
    half = student_t(len(values) - 1) * standard_error(values)
    return Estimate(centre, centre - half, centre + half, statistics.stdev(values))


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
