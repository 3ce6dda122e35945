"""Outliers: what is out of all proportion is shortened, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from antiphon.comms.backward_requests import BundledOutliers, Outliers


def of_lengths(*lengths: float) -> Tensor:
    """[samples, 2]: gradients of these lengths."""
    return torch.tensor([[0.6, -0.8]], dtype=torch.float64) * torch.tensor(lengths).double().unsqueeze(1)


def used_to(length: float, batches: int = 10) -> Outliers:
    """One that has seen gradients of one length."""
    outliers = Outliers()
    for _ in range(batches):
        assert torch.equal(outliers.clip(of_lengths(length, length)), of_lengths(length, length))
    return outliers


def test_what_is_more_than_ten_times_the_median_is_shortened_to_that() -> None:
    outliers = used_to(2.0)
    given = of_lengths(1.0, 19.0, 300.0, 2.0, 0.0)
    found = outliers.clip(given)
    torch.testing.assert_close(found, of_lengths(1.0, 19.0, 20.0, 2.0, 0.0))
    assert torch.equal(found[[0, 3, 4]], given[[0, 3, 4]])
    assert outliers.clip_count == 1


def test_nothing_is_shortened_before_ten_batches_have_been_seen() -> None:
    for batches, bites in ((9, 0), (10, 1)):
        outliers = used_to(1.0, batches)
        given = of_lengths(1.0, 1.0, 1e6)
        assert torch.equal(outliers.clip(given), given) == (bites == 0)
        assert outliers.clip_count == bites


def test_what_is_just_ten_times_as_long_is_left() -> None:
    outliers = used_to(1.0)
    assert outliers.median is not None
    longest = float(10 * outliers.median)
    given = of_lengths(1.0, 1.0, longest)
    if float(given[2].norm()) <= longest:
        assert torch.equal(outliers.clip(given), given)
    assert torch.equal(used_to(1.0).clip(of_lengths(1.0, 1.0, 9.99)), of_lengths(1.0, 1.0, 9.99))


def test_the_median_moves_by_a_hundredth_and_one_batch_cannot_carry_it_away() -> None:
    outliers = used_to(1.0)
    outliers.clip(of_lengths(2.0, 2.0, 2.0))
    assert float(outliers.median) == pytest.approx(1.01)  # type: ignore[arg-type]
    outliers = used_to(1.0)
    outliers.clip(of_lengths(1e9, 1e9, 1e9))
    assert float(outliers.median) == pytest.approx(0.99 + 0.01 * 10)  # type: ignore[arg-type]
    assert outliers.clip_count == 3


def test_what_follows_a_lasting_growth_is_no_outlier() -> None:
    outliers = used_to(1.0)
    for _ in range(400):
        outliers.clip(of_lengths(50.0, 50.0))
    given = of_lengths(50.0, 50.0)
    assert torch.equal(outliers.clip(given), given)


def test_samples_without_a_gradient_do_not_count() -> None:
    outliers = used_to(3.0)
    for _ in range(200):
        nothing = torch.zeros(4, 2, dtype=torch.float64)
        assert outliers.clip(nothing) is nothing
        outliers.clip(of_lengths(3.0, 0.0, 0.0, 0.0))
    assert float(outliers.median) == pytest.approx(3.0)  # type: ignore[arg-type]
    assert outliers.batches == 210


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(value: float) -> None:
    """That is a divergence, which somebody else has to find."""
    outliers = used_to(1.0)
    given = of_lengths(1.0, 1.0, 1e6)
    given[0, 0] = value
    assert not bool(outliers.clip(given)[0].isfinite().all())
    assert math.isfinite(float(outliers.median))  # type: ignore[arg-type]
    before = outliers.state_dict()
    nothing_else = torch.full((2, 2), value, dtype=torch.float64)
    assert outliers.clip(nothing_else) is nothing_else
    assert outliers.state_dict() == before


def test_one_that_takes_over_a_state_goes_on_alike() -> None:
    outliers, other = used_to(1.0, 9), Outliers()
    other.load_state_dict(outliers.state_dict())
    for given in (of_lengths(4.0, 1.0), of_lengths(80.0, 1.0), of_lengths(2.0, 200.0)):
        assert torch.equal(outliers.clip(given), other.clip(given))
        assert outliers.state_dict() == other.state_dict()
    assert outliers.clip_count == other.clip_count == 2


# --- many as one -----------------------------------------------------------------------------------------

MEMBERS, ROWS = 4, 7


def batches(count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Gradients [members, rows, 5] with all that happens: outliers, rows and members of zeros, what is no number."""
    drawn = torch.Generator().manual_seed(3)
    found = []
    for i in range(count):
        given = torch.randn(MEMBERS, ROWS, 5, generator=drawn, dtype=torch.float64)
        given[i % MEMBERS, i % ROWS] *= 60 if i > 8 else 3
        given[(i + 1) % MEMBERS] *= 1 + 0.05 * i
        given[1, : i % (ROWS + 1)] = 0
        if i % 5 == 4:
            given[2] = 0
        if i % 6 == 5:
            given[3, 1] = (math.nan, math.inf)[i % 4 // 2]
        if i % 9 == 8:
            given[0] = (math.nan, math.inf)[i // 9 % 2]
        found.append(given.to(dtype))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_as_one_do_what_each_does_alone(dtype: torch.dtype) -> None:
    alone = [Outliers() for _ in range(MEMBERS)]
    together = BundledOutliers([Outliers() for _ in range(MEMBERS)])
    for given in batches(60, dtype):
        found = together.clip(given.flatten(0, 1)).view_as(given)
        for k, one in enumerate(alone):
            expected = one.clip(given[k])
            torch.testing.assert_close(found[k], expected, rtol=1e-12, atol=1e-12, equal_nan=True)
    together.write_members()
    assert [one.clip_count for one in alone] == together.clip_count.tolist()
    assert all(one.clip_count for one in alone)
    for mine, theirs in zip(together.members, alone, strict=True):
        assert mine.median == pytest.approx(theirs.median, rel=1e-12)
        assert (mine.batches, mine.clip_count) == (theirs.batches, theirs.clip_count)


def test_many_as_one_take_over_a_state_and_give_it_back() -> None:
    members = [used_to(1.0), Outliers(), used_to(2.0, 4), used_to(3.0, 12)]
    before = [one.state_dict() for one in members]
    together = BundledOutliers(members)
    together.write_members()
    assert [one.state_dict() for one in members] == before
    given = of_lengths(*[1.0, 1.0, 40.0] * MEMBERS)
    expected = torch.cat([one.clip(given[3 * k : 3 * k + 3]) for k, one in enumerate(members)])
    assert torch.equal(together.clip(given), expected)
    assert together.clip_count.tolist() == [1, 0, 0, 1]
    members[1].load_state_dict(before[3])
    together.read_members()
    assert together.batches.tolist() == [11, 12, 5, 13]
    torch.testing.assert_close(together.clip(given)[3:6], of_lengths(1.0, 1.0, 30.0))


def test_of_members_to_whom_nothing_came_back_nothing_is_taken() -> None:
    together, other = (BundledOutliers([used_to(1.0) for _ in range(MEMBERS)]) for _ in range(2))
    given = of_lengths(*[1.0, 1.0, 40.0] * MEMBERS)
    heard = torch.tensor([True, False, False, True])
    expected = other.clip(given)
    given[3:6] = math.nan
    found = together.clip(given, heard)
    assert torch.equal(found[6:9], given[6:9])
    assert torch.equal(found[[0, 1, 2, 9, 10, 11]], expected[[0, 1, 2, 9, 10, 11]])
    assert together.batches.tolist() == [11, 10, 10, 11]
    assert together.clip_count.tolist() == [1, 0, 0, 1]
    assert torch.equal(together.median[heard], other.median[heard])
    assert together.median[1] == used_to(1.0).median
