"""Intervals of what is measured a few times over: pure functions of numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Ratio", "ratio", "student"]

_ERRORS = 3.0
"""How many standard errors a denominator has to lie above zero for a ratio to mean anything (semantics 35)."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of means with its 95 % interval.

    Attributes:
        value: mean(parts) / mean(wholes); None where the wholes are not told from nothing.
        low: Lower end of the interval; None without a value.
        high: Upper end.
        whole: mean(wholes).
        error: Its standard error.
    """

    value: float | None
    low: float | None
    high: float | None
    whole: float
    error: float


def student(freedom: int) -> float:
    """Return the quantile of Student's t that leaves 2.5 % in each tail.

    With t = sqrt(n) tan(angle), the angle has a density proportional to cos(angle)^(n - 1).

    Args:
        freedom: Degrees of freedom n, at least 1.
    """
    angles = np.linspace(0.0, np.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(math.sqrt(freedom) * np.tan(np.interp(0.95 * below[-1], below, angles)))


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> Ratio:
    """Return the ratio of two means over repeats that were measured in pairs.

    The interval is Student's t of the residuals part - value * whole (the delta method): its length is nothing
    where parts are a fixed share of wholes, however these vary.

    Args:
        parts: One number per repeat; at least two.
        wholes: Likewise. The ratio is undefined unless their mean exceeds three standard errors.
    """
    count = len(parts)
    part, whole = statistics.fmean(parts), statistics.fmean(wholes)
    error = statistics.stdev(wholes) / math.sqrt(count)
    if not whole > _ERRORS * error:
        return Ratio(None, None, None, whole, error)
    value = part / whole
    residuals = [p - value * w for p, w in zip(parts, wholes, strict=True)]
    spread = statistics.stdev(residuals) / math.sqrt(count)
    half = student(count - 1) * spread / whole
    return Ratio(value, value - half, value + half, whole, error)
