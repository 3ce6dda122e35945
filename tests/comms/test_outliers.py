"""Outliers: what is out of all proportion is shortened, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from antiphon.comms.backward_requests import Outliers, StackedOutliers


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
    early = used_to(2.0, 9)
    assert torch.equal(early.clip(of_lengths(300.0)), of_lengths(300.0)), "nothing before ten batches"
    outliers = used_to(2.0)
    given = of_lengths(1.0, 19.0, 300.0, 2.0, 0.0)
    found = outliers.clip(given)
    torch.testing.assert_close(found, of_lengths(1.0, 19.0, 20.0, 2.0, 0.0))
    assert torch.equal(found[[0, 3, 4]], given[[0, 3, 4]])
    assert outliers.clip_count == 1


def test_the_median_moves_by_a_hundredth_and_one_batch_cannot_carry_it_away() -> None:
    outliers = used_to(1.0)
    outliers.clip(of_lengths(2.0, 2.0, 2.0))
    assert float(outliers.median) == pytest.approx(1.01)
    outliers = used_to(1.0)
    outliers.clip(of_lengths(1e9, 1e9, 1e9))
    assert float(outliers.median) == pytest.approx(0.99 + 0.01 * 10)
    assert outliers.clip_count == 3


def test_samples_without_a_gradient_do_not_count() -> None:
    outliers = used_to(3.0)
    for _ in range(200):
        nothing = torch.zeros(4, 2, dtype=torch.float64)
        assert torch.equal(outliers.clip(nothing), nothing)
        outliers.clip(of_lengths(3.0, 0.0, 0.0, 0.0))
    assert float(outliers.median) == pytest.approx(3.0)
    assert outliers.batches == 210


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(value: float) -> None:
    """That is a divergence, which somebody else has to find."""
    outliers = used_to(1.0)
    given = of_lengths(1.0, 1.0, 1e6)
    given[0, 0] = value
    assert not bool(outliers.clip(given)[0].isfinite().all())
    assert math.isfinite(float(outliers.median))
    before = outliers.state_dict()
    nothing_else = torch.full((2, 2), value, dtype=torch.float64)
    assert torch.equal(outliers.clip(nothing_else).isfinite(), nothing_else.isfinite())
    assert outliers.state_dict() == before


# --- many as one -----------------------------------------------------------------------------------------

MEMBERS, ROWS = 4, 7


def batches(count: int) -> list[Tensor]:
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
        found.append(given)
    return found


def test_many_as_one_do_what_each_does_alone() -> None:
    alone = [Outliers() for _ in range(MEMBERS)]
    together = StackedOutliers([Outliers() for _ in range(MEMBERS)])
    for given in batches(60):
        found = together.clip(given.flatten(0, 1)).view_as(given)
        for k, one in enumerate(alone):
            expected = one.clip(given[k])
            torch.testing.assert_close(found[k], expected, rtol=1e-12, atol=1e-12, equal_nan=True)
        together.write_members()
        together.read_members()
    assert [int(one.clip_count) for one in alone] == together.clip_count.tolist()
    assert all(one.clip_count for one in alone)
    for mine, theirs in zip(together.members, alone, strict=True):
        assert mine.state_dict() == pytest.approx(theirs.state_dict(), rel=1e-12)


def test_of_members_to_whom_nothing_came_back_nothing_is_taken() -> None:
    together, other = (StackedOutliers([used_to(1.0) for _ in range(MEMBERS)]) for _ in range(2))
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
