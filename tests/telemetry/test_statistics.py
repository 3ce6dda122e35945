"""Interquartile means and their intervals: by hand, by counting, and what bootstraps promise."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from antiphon.telemetry.statistics import bootstrap, interquartile_mean, seed_statistics


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([7.0], 7.0),
        ([1.0, 3.0], 2.0),
        ([0.0, 3.0, 9.0], (0.25 * 0 + 3 + 0.25 * 9) / 1.5),
        ([4.0, 1.0, 3.0, 2.0], 2.5),
        ([1.0, 2.0, 3.0, 4.0, 100.0], (0.75 * 2 + 3 + 0.75 * 4) / 2.5),
        ([1, 2, 3, 4, 5, 6, 7, 1000], (3 + 4 + 5 + 6) / 4),
        ([-50, 1, 2, 3, 4, 5, 6, 7, 8, 900], (0.5 * 2 + 3 + 4 + 5 + 6 + 0.5 * 7) / 5),
    ],
)
def test_the_middle_half_by_hand(values: list[float], mean: float) -> None:
    assert interquartile_mean(values) == pytest.approx(mean, abs=1e-12)


def test_it_is_the_trimmed_mean_of_every_value_four_times() -> None:
    """A quarter of 4 n values is n of them: then nothing has to be parted."""
    for count in range(1, 12):
        values = [random.Random(count).gauss(0, 1) for _ in range(count)]
        often = sorted(values * 4)
        assert interquartile_mean(values) == pytest.approx(statistics.fmean(often[count:-count]), abs=1e-12)


def test_a_lucky_seed_moves_the_mean_and_not_this() -> None:
    assert interquartile_mean([1.0, 1.1, 0.9, 1.0, 99.0]) == pytest.approx(
        interquartile_mean([1.0, 1.1, 0.9, 1.0, 1.2])
    )


def test_intervals_are_the_percentiles_of_all_resamples() -> None:
    """Of three values there are 27 resamples, all as likely."""
    values = [0.0, 1.0, 5.0]
    every = sorted(interquartile_mean(drawn) for drawn in itertools.product(values, repeat=3))
    low, high = bootstrap([values])
    assert (low, high) == (pytest.approx(every[0]), pytest.approx(every[-1]))  # 1 of 27 is more than 2.5 %
    assert bootstrap([values]) == (low, high)


def test_rows_are_resampled_each_by_itself() -> None:
    """Rows without spread have no interval, however far apart they are; thrown together they would have one."""
    assert bootstrap([[1.0] * 4, [9.0] * 4]) == (pytest.approx(5.0), pytest.approx(5.0))
    low, high = bootstrap([[1.0] * 4 + [9.0] * 4])
    assert low < 2.0
    assert high > 8.0


def test_what_a_few_seeds_say() -> None:
    found = seed_statistics([1.0, 2.0, 3.0, 4.0, 10.0])
    assert (found.mean, found.median, found.n) == (4.0, 3.0, 5)
    assert found.error == pytest.approx(math.sqrt(12.5 / 5))
    assert found.iqm == pytest.approx(3.0)
    assert found.low is not None
    assert found.high is not None
    assert 1.0 < found.low < 3.0 < found.high < 10.0
    one = seed_statistics([0.5])
    assert (one.mean, one.error, one.median, one.iqm, one.low, one.high, one.n) == (
        0.5,
        None,
        0.5,
        0.5,
        None,
        None,
        1,
    )


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    draw = random.Random(7)
    held = 0
    for _ in range(60):
        low, high = bootstrap([[draw.gauss(0, 1) for _ in range(20)]])
        held += low <= 0 <= high
    assert held >= 50  # 57 expected, a little fewer of so few seeds
