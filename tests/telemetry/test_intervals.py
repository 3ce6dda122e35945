"""Statistics against values worked out by hand, by counting, and what bootstraps promise."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import numpy as np
import pytest

from antiphon.telemetry.intervals import (
    Contrast,
    bootstrap,
    contrast,
    interquartile_mean,
    mean,
    ratio,
    recovered,
    student_t,
    worth,
)
from tests.kit.some import some


def test_the_interquartile_mean_is_the_trimmed_mean_of_every_value_four_times() -> None:
    """A quarter of 4 n values is n of them: then nothing has to be parted."""
    for count in range(1, 12):
        rng = random.Random(count)
        values = [rng.gauss(0, 1) for _ in range(count)]
        often = sorted(values * 4)
        assert interquartile_mean(values) == pytest.approx(statistics.fmean(often[count:-count]), abs=1e-12)


def test_intervals_are_the_percentiles_of_all_resamples() -> None:
    """Of three values there are 27 resamples, all as likely."""
    values = [0.0, 1.0, 5.0]
    every = sorted(interquartile_mean(drawn) for drawn in itertools.product(values, repeat=3))
    low, high = bootstrap(values)
    assert (low, high) == (pytest.approx(every[0]), pytest.approx(every[-1]))  # 1 of 27 is more than 2.5 %
    assert bootstrap(values) == (low, high)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.2, "helps"), (-0.2, -0.1, "harms"), (-0.1, 0.1, "unresolved"), (0.0, 0.1, "unresolved")],
)
def test_one_word_says_on_which_side_of_zero_an_interval_lies(low: float, high: float, word: str) -> None:
    assert worth(low, high) == word


# --- studies ------------------------------------------------------------------------------------------------


def test_mean_of_seeds_has_students_interval() -> None:
    found = mean([0.90, 0.92, 0.94])
    half = 4.303 * 0.02 / math.sqrt(3)
    assert found.value == pytest.approx(0.92)
    assert found.sd == pytest.approx(0.02)
    assert (found.low, found.high) == (pytest.approx(0.92 - half), pytest.approx(0.92 + half))


def test_one_seed_has_wilsons_interval_of_the_test_split() -> None:
    found = mean([0.5], examples=96)
    assert found.sd is None
    assert found.low == pytest.approx(0.402, abs=0.001)
    assert found.high == pytest.approx(0.598, abs=0.001)
    assert mean([1.0], examples=100).high == pytest.approx(1.0)
    assert mean([1.0], examples=100).low == pytest.approx(0.963, abs=0.001)


def test_contrast_is_paired_by_seed() -> None:
    gap = some(contrast({0: 0.9, 1: 0.8, 2: 0.7, 9: 0.0}, {0: 0.8, 1: 0.6, 2: 0.4}))
    assert gap.difference == pytest.approx(0.2)
    assert gap.error == pytest.approx(0.1 / math.sqrt(3))
    assert gap.resolved


def test_contrast_of_one_seed_has_the_binomial_error_of_the_test_split() -> None:
    gap = some(contrast({0: 0.9}, {0: 0.8}, examples=100))
    assert gap.error == pytest.approx(math.sqrt(0.09 / 100 + 0.16 / 100))
    assert not gap.resolved
    assert not some(contrast({0: 0.9}, {0: 0.8})).resolved
    assert contrast({0: 0.9}, {1: 0.8}) is None
    assert Contrast(0.31, 0.1).resolved
    assert not Contrast(0.3, 0.1).resolved


def test_recovered_is_none_without_a_common_seed_or_a_gain() -> None:
    assert recovered({1: 0.7}, {0: 0.9}, {0: 0.5}) is None
    assert recovered({0: 0.7}, {0: 0.5}, {0: 0.5}) is None


def test_recovered_is_a_ratio_of_means_where_the_gaps_differ() -> None:
    """A mean of each seed's ratio is another number: a seed with a small gap would count as much as one with a large."""
    locked = {0: 0.9, 1: 0.8, 2: 0.95, 3: 0.7}
    detached = {0: 0.5, 1: 0.75, 2: 0.45, 3: 0.6}
    variant = {0: 0.6, 1: 0.80, 2: 0.75, 3: 0.69}
    found = some(recovered(variant, locked, detached))
    gains = np.array([variant[seed] - detached[seed] for seed in range(4)])
    wholes = np.array([locked[seed] - detached[seed] for seed in range(4)])
    assert found.value == pytest.approx(gains.sum() / wholes.sum())
    assert abs(found.value - (gains / wholes).mean()) > 0.1
    every = [list(drawn) for drawn in itertools.product(range(4), repeat=4)]  # all resamples there are
    ratios = [gains[drawn].sum() / wholes[drawn].sum() for drawn in every]
    assert found.low == pytest.approx(np.quantile(ratios, 0.025), abs=0.01)
    assert found.high == pytest.approx(np.quantile(ratios, 0.975), abs=0.01)
    others = [(gains[drawn] / wholes[drawn]).mean() for drawn in every]
    assert abs(found.low - np.quantile(others, 0.025)) > 0.05


# --- ratios -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (4, 2.776), (30, 2.042), (31, 2.040), (1000, 1.962)],
)
def test_quantiles_of_student(freedom: int, expected: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, abs=6e-4)


def test_the_interval_is_students_of_the_residuals() -> None:
    found = ratio([0.8, 1.2], [2.0, 2.0])
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5 - 12.706 * 0.1, abs=1e-3)
    assert found.high == pytest.approx(0.5 + 12.706 * 0.1, abs=1e-3)


@pytest.mark.parametrize("wholes", [[0.0, 0.0], [-1.0, -1.1], [1.0, 3.0], [1.0, -0.2, 0.4]])
def test_without_a_whole_that_is_told_from_nothing_there_is_no_ratio(wholes: list[float]) -> None:
    found = ratio([0.5] * len(wholes), wholes)
    assert found.value is found.low is found.high is None
    assert found.denominator == pytest.approx(sum(wholes) / len(wholes))


def test_three_standard_errors_are_the_border() -> None:
    assert ratio([1.0, 1.0], [1.0, 1.99]).value is not None  # mean 1.495, standard error 0.495
    assert ratio([1.0, 1.0], [1.0, 2.01]).value is None
