"""The statistics of a study, against values worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from antiphon.telemetry.statistics import Contrast, contrast, mean, recovered
from tests.some import some


def test_mean_of_seeds_has_students_interval() -> None:
    found = mean([0.90, 0.92, 0.94])
    half = 4.303 * 0.02 / math.sqrt(3)
    assert found.value == pytest.approx(0.92)
    assert found.sd == pytest.approx(0.02)
    assert (found.low, found.high) == (pytest.approx(0.92 - half), pytest.approx(0.92 + half))


def test_interval_stays_within_what_an_accuracy_can_be() -> None:
    found = mean([0.9, 1.0])
    assert found.low == pytest.approx(0.95 - 12.706 * 0.05)
    assert found.high == 1.0


def test_many_seeds_come_near_the_normal_interval() -> None:
    values = [0.5, 0.6] * 50
    found = mean(values)
    assert found.low is not None
    assert (found.value - found.low) * 10 / found.sd == pytest.approx(1.984, abs=0.001)  # type: ignore[operator]


def test_one_seed_has_wilsons_interval_of_the_test_split() -> None:
    found = mean([0.5], examples=96)
    assert found.sd is None
    assert found.low == pytest.approx(0.402, abs=0.001)
    assert found.high == pytest.approx(0.598, abs=0.001)
    assert mean([1.0], examples=100).high == pytest.approx(1.0)
    assert mean([1.0], examples=100).low == pytest.approx(0.963, abs=0.001)


def test_one_seed_without_a_test_split_has_no_interval() -> None:
    assert mean([0.5]).low is None


def test_contrast_is_paired_by_seed() -> None:
    gap = some(contrast({0: 0.9, 1: 0.8, 2: 0.7, 9: 0.0}, {0: 0.8, 1: 0.6, 2: 0.4}))
    assert gap.difference == pytest.approx(0.2)
    assert gap.error == pytest.approx(0.1 / math.sqrt(3))
    assert gap.resolved


def test_contrast_of_one_seed_has_the_binomial_error_of_the_test_split() -> None:
    gap = some(contrast({0: 0.9}, {0: 0.8}, examples=100))
    assert gap.error == pytest.approx(math.sqrt(0.09 / 100 + 0.16 / 100))
    assert not gap.resolved
    assert not contrast({0: 0.9}, {0: 0.8}).resolved  # type: ignore[union-attr]


def test_contrast_needs_a_common_seed() -> None:
    assert contrast({0: 0.9}, {1: 0.8}) is None
    assert contrast({}, {}) is None


@pytest.mark.parametrize(("difference", "resolved"), [(0.31, True), (0.3, False), (-0.5, False)])
def test_resolved_is_beyond_three_standard_errors(difference: float, resolved: bool) -> None:
    assert Contrast(difference, 0.1).resolved is resolved


def test_recovered_is_the_ratio_of_the_means_with_a_paired_interval() -> None:
    locked, detached = {0: 0.9, 1: 1.0}, {0: 0.5, 1: 0.6}
    found = some(recovered({0: 0.7, 1: 0.9}, locked, detached))
    assert found.value == pytest.approx((0.2 + 0.3) / 0.8)
    assert (found.low, found.high) == (pytest.approx(0.5), pytest.approx(0.75))
    assert found == recovered({0: 0.7, 1: 0.9}, locked, detached)


def test_recovered_of_the_references_is_one_and_zero() -> None:
    locked, detached = {0: 0.9, 1: 0.95}, {0: 0.5, 1: 0.62}
    for variant, value in ((locked, 1.0), (detached, 0.0)):
        found = some(recovered(variant, locked, detached))
        assert (found.value, found.low, found.high) == (value, value, value)


def test_recovered_of_one_seed_has_no_interval() -> None:
    found = some(recovered({0: 0.7}, {0: 0.9}, {0: 0.5}))
    assert found.value == pytest.approx(0.5)
    assert found.low is None


def test_recovered_is_none_without_a_common_seed_or_a_gain() -> None:
    assert recovered({1: 0.7}, {0: 0.9}, {0: 0.5}) is None
    assert recovered({0: 0.7}, {0: 0.5}, {0: 0.5}) is None


def test_what_is_no_share_has_no_bounds_and_needs_seeds() -> None:
    found = mean([0.9, 1.1], share=False)
    assert found.high == pytest.approx(1.0 + 12.706 * 0.1)
    assert found.low == pytest.approx(1.0 - 12.706 * 0.1)
    assert mean([0.9], examples=100, share=False).low is None


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
