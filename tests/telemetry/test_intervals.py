"""Ratios of means with their intervals."""

from __future__ import annotations

import pytest

from antiphon.telemetry.statistics import ratio, student_t


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (2, 4.303), (4, 2.776), (30, 2.042), (31, 2.040), (60, 2.000), (1000, 1.962)],
)
def test_quantiles_of_student(freedom: int, expected: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, abs=6e-4)


def test_a_fixed_share_has_no_spread_however_the_wholes_vary() -> None:
    wholes = [1.0, 1.3, 0.9, 1.1]
    for share in (1.0, 0.0, -0.5):
        found = ratio([share * whole for whole in wholes], wholes)
        assert (found.value, found.low, found.high) == pytest.approx((share, share, share))


def test_the_interval_is_students_of_the_residuals() -> None:
    found = ratio([0.4, 0.6], [1.0, 1.0])
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5 - 12.706 * 0.1, abs=1e-3)
    assert found.high == pytest.approx(0.5 + 12.706 * 0.1, abs=1e-3)


def test_it_is_a_ratio_of_means_and_no_mean_of_ratios() -> None:
    assert ratio([0.0, 1.5], [1.0, 1.5]).value == pytest.approx(0.6)


@pytest.mark.parametrize("wholes", [[0.0, 0.0], [-1.0, -1.1], [1.0, 3.0], [1.0, -0.2, 0.4]])
def test_without_a_whole_that_is_told_from_nothing_there_is_no_ratio(wholes: list[float]) -> None:
    found = ratio([0.5] * len(wholes), wholes)
    assert found.value is found.low is found.high is None
    assert found.whole == pytest.approx(sum(wholes) / len(wholes))


def test_three_standard_errors_are_the_border() -> None:
    assert ratio([1.0, 1.0], [1.0, 1.99]).value is not None  # mean 1.495, standard error 0.495
    assert ratio([1.0, 1.0], [1.0, 2.01]).value is None
