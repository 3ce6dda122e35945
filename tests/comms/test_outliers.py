"""Outliers: what is out of all proportion is shortened, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from antiphon.comms.backward_requests import Outliers


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
    given = of_lengths(1.0, 19.9, 300.0, 2.0, 0.0)
    found = outliers.clip(given)
    torch.testing.assert_close(found, of_lengths(1.0, 19.9, 20.0, 2.0, 0.0))
    assert torch.equal(found[[0, 3, 4]], given[[0, 3, 4]])
    assert outliers.clip_count == 1


def test_nothing_is_shortened_before_ten_batches_have_been_seen() -> None:
    for batches, bites in ((9, 0), (10, 1)):
        outliers = used_to(1.0, batches)
        given = of_lengths(1.0, 1.0, 1e6)
        assert torch.equal(outliers.clip(given), given) == (bites == 0)
        assert outliers.clip_count == bites


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
    assert torch.equal(outliers.clip(nothing_else).nan_to_num(), nothing_else.nan_to_num())
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
        if i % 13 == 12:
            given[(i + 2) % MEMBERS] *= 1e3  # of a whole batch, which moves the median as far as it may
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
    """They take over what each has seen; now and then nothing came back to some; a state is loaded on the way."""
    alone, members = ([used_to(1.0), Outliers(), used_to(2.0, 4), Outliers()] for _ in range(2))
    together = Outliers(members=members)
    for now, given in enumerate(batches(60, dtype)):
        came = torch.tensor([True, now % 4 > 0, now % 7 < 3, True])
        if now % 3 == 0:
            given[~came] = math.nan
        else:
            came[:] = True
        found = together.clip(given.flatten(0, 1)).view_as(given)
        for k in range(MEMBERS):
            expected = alone[k].clip(given[k]) if came[k] else given[k]
            torch.testing.assert_close(found[k], expected, rtol=1e-12, atol=1e-12, equal_nan=True)
        if now == 30:
            together.write_members()
            for crowd in (alone, members):
                crowd[3].load_state_dict(used_to(3.0, 12).state_dict())
            together.read_members()
    together.write_members()
    assert [one.clip_count for one in alone] == together.clip_count.tolist()
    assert all(one.clip_count for one in alone)
    for mine, theirs in zip(members, alone, strict=True):
        mine_now, theirs_now = mine.state_dict(), theirs.state_dict()
        assert mine_now.pop("median") == pytest.approx(theirs_now.pop("median"), rel=1e-12)
        assert mine_now == theirs_now
