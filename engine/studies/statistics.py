"""What a few seeds say: mean with standard error, median, and the interquartile mean with a bootstrap interval.

The interquartile mean (IQM) is the mean of the middle half: neither a seed that failed nor one that was lucky moves it
far, and unlike the median it uses half of what was measured. Agarwal et al., "Deep Reinforcement Learning at the Edge of
the Statistical Precipice", NeurIPS 2021. Pure functions of numbers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST", "Spread", "bootstrap", "interquartile_mean", "spread"]

FEWEST = 5
"""Of fewer seeds than these a table of a study says nothing of the middle half: it would be one or two of them."""
_RESAMPLES = 10_000
_TAIL = 0.025


@dataclass(frozen=True)
class Spread:
    """What a figure is over seeds.

    Attributes:
        mean: Of all seeds.
        error: Its standard error; None of one seed.
        median: The value in the middle.
        iqm: The interquartile mean.
        low: Lower end of its 95 % interval; None of one seed.
        high: Upper end.
        n: How many seeds.
    """

    mean: float
    error: float | None
    median: float
    iqm: float
    low: float | None
    high: float | None
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Return what a figure is over seeds.

    Args:
        values: One per seed, at least one.
    """
    several = len(values) > 1
    low, high = bootstrap([values]) if several else (None, None)
    error = statistics.stdev(values) / math.sqrt(len(values)) if several else None
    middle = statistics.median(values)
    return Spread(statistics.fmean(values), error, middle, interquartile_mean(values), low, high, len(values))


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean of the middle half; of what lies on its edge only the part counts that is within.

    Args:
        values: At least one. Of five, sorted, the second and fourth count 3/4 each, the third whole.
    """
    return float(np.sort(np.asarray(values, dtype=np.float64)) @ _weights(len(values)))


def bootstrap(rows: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the 95 % interval of the interquartile mean of all rows together: the percentiles of 10,000 resamples.

    Seeds are drawn anew within each row (stratified), with the same random numbers always.

    Args:
        rows: Of each task, variant or point the figures by seed, at least one; on one scale.
    """
    random = np.random.default_rng(0)
    participates = [
        np.asarray(row, dtype=np.float64)[random.integers(len(row), size=(_RESAMPLES, len(row)))]
        for row in rows
    ]
    together = np.sort(np.concatenate(participates, axis=1), axis=1)
    low, high = np.quantile(together @ _weights(together.shape[1]), [_TAIL, 1 - _TAIL])
    return float(low), float(high)


def _weights(count: int) -> NDArray[np.float64]:
    """Return what each of so many sorted values counts, [count]: its share of the middle half of [0, 1]."""
    edges = np.arange(count + 1) / count
    within = np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25)
    weights: NDArray[np.float64] = np.maximum(within, 0.0) / 0.5
    return weights
