"""Statistics against values worked out by hand, on paper."""

from __future__ import annotations

import math

import pytest

from antiphon.telemetry.intervals import mean, ratio, student_t, worth


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
    assert mean([0.9]).low is None


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
