"""Outliers: what is out of all proportion is shortened, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from antiphon.comms.outliers import Outliers


def of_lengths(*lengths: float) -> Tensor:
    """[samples, 2]: gradients of these lengths."""
    return torch.tensor([[0.6, -0.8]], dtype=torch.float64) * torch.tensor(lengths).double().unsqueeze(1)


def used_to(length: float, batches: int = 10) -> Outliers:
    """One that has seen gradients of one length."""
    outliers = Outliers()
    for _ in range(batches):
        assert torch.equal(outliers.shortened(of_lengths(length, length)), of_lengths(length, length))
    return outliers


def test_what_is_more_than_ten_times_the_median_is_shortened_to_that() -> None:
    outliers = used_to(2.0)
    given = of_lengths(1.0, 19.0, 300.0, 2.0, 0.0)
    found = outliers.shortened(given)
    torch.testing.assert_close(found, of_lengths(1.0, 19.0, 20.0, 2.0, 0.0))
    assert torch.equal(found[[0, 3, 4]], given[[0, 3, 4]])
    assert outliers.bites == 1


def test_nothing_is_shortened_before_ten_batches_have_been_seen() -> None:
    for batches, bites in ((9, 0), (10, 1)):
        outliers = used_to(1.0, batches)
        given = of_lengths(1.0, 1.0, 1e6)
        assert torch.equal(outliers.shortened(given), given) == (bites == 0)
        assert outliers.bites == bites


def test_what_is_just_ten_times_as_long_is_left() -> None:
    outliers = used_to(1.0)
    assert outliers.median is not None
    longest = float(10 * outliers.median)
    given = of_lengths(1.0, 1.0, longest)
    if float(given[2].norm()) <= longest:
        assert torch.equal(outliers.shortened(given), given)
    assert torch.equal(used_to(1.0).shortened(of_lengths(1.0, 1.0, 9.99)), of_lengths(1.0, 1.0, 9.99))


def test_the_median_moves_by_a_hundredth_and_one_batch_cannot_carry_it_away() -> None:
    outliers = used_to(1.0)
    outliers.shortened(of_lengths(2.0, 2.0, 2.0))
    assert float(outliers.median) == pytest.approx(1.01)  # type: ignore[arg-type]
    outliers = used_to(1.0)
    outliers.shortened(of_lengths(1e9, 1e9, 1e9))
    assert float(outliers.median) == pytest.approx(0.99 + 0.01 * 10)  # type: ignore[arg-type]
    assert outliers.bites == 3


def test_what_follows_a_lasting_growth_is_no_outlier() -> None:
    outliers = used_to(1.0)
    for _ in range(400):
        outliers.shortened(of_lengths(50.0, 50.0))
    given = of_lengths(50.0, 50.0)
    assert torch.equal(outliers.shortened(given), given)


def test_samples_without_a_gradient_do_not_count() -> None:
    outliers = used_to(3.0)
    for _ in range(200):
        nothing = torch.zeros(4, 2, dtype=torch.float64)
        assert outliers.shortened(nothing) is nothing
        outliers.shortened(of_lengths(3.0, 0.0, 0.0, 0.0))
    assert float(outliers.median) == pytest.approx(3.0)  # type: ignore[arg-type]
    assert outliers.seen == 210


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(value: float) -> None:
    """That is a divergence, which somebody else has to find."""
    outliers = used_to(1.0)
    given = of_lengths(1.0, 1.0, 1e6)
    given[0, 0] = value
    assert not bool(outliers.shortened(given)[0].isfinite().all())
    assert math.isfinite(float(outliers.median))  # type: ignore[arg-type]
    before = outliers.state_dict()
    nothing_else = torch.full((2, 2), value, dtype=torch.float64)
    assert outliers.shortened(nothing_else) is nothing_else
    assert outliers.state_dict() == before


def test_one_that_takes_over_a_state_goes_on_alike() -> None:
    outliers, other = used_to(1.0, 9), Outliers()
    other.load_state_dict(outliers.state_dict())
    for given in (of_lengths(4.0, 1.0), of_lengths(80.0, 1.0), of_lengths(2.0, 200.0)):
        assert torch.equal(outliers.shortened(given), other.shortened(given))
        assert outliers.state_dict() == other.state_dict()
    assert outliers.bites == other.bites == 2
