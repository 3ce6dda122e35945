"""Fan-in joins observations and messages along dimension 1."""

from __future__ import annotations

import pytest
import torch

from antiphon.comms.links import combine_reads, join

A, B, C = (torch.full((2, 3), float(value)) for value in (1, 2, 6))


def test_concat_keeps_the_order() -> None:
    assert join("concat", [A], [B, C], [True, True]).tolist()[0] == [1, 1, 1, 2, 2, 2, 6, 6, 6]
    assert join("concat", [A], [], []) is A


def test_sum_and_mean_stand_after_the_observations() -> None:
    assert join("sum", [A], [B, C], [True, True]).tolist()[0] == [1, 1, 1, 8, 8, 8]
    assert join("mean", [A], [B, C], [True, True]).tolist()[0] == [1, 1, 1, 4, 4, 4]
    assert join("sum", [], [B], [True]) is B
    assert join("mean", [A, B], [], []).shape == (2, 6)


def test_mean_counts_what_came() -> None:
    silence = torch.zeros_like(A)
    assert torch.equal(join("mean", [], [B, silence, C], [True, False, True]), A * 4)
    assert torch.equal(join("mean", [], [silence, silence], [False, False]), silence)


# --- several messages of one channel -------------------------------------------------------------------------

SOME, OTHER = torch.tensor([True, False]), torch.tensor([False, False])


def test_zeros_stand_for_the_oldest_where_there_are_fewer() -> None:
    value, came = combine_reads("concat", [(B, True), (C, True)], 3)
    assert value.tolist()[0] == [0, 0, 0, 2, 2, 2, 6, 6, 6], "the oldest first"
    assert came is True
    value, came = combine_reads("concat", [(torch.zeros_like(A), False)], 2)
    assert value.shape == (2, 6)
    assert not value.any()
    assert came is False


def test_the_mean_is_over_those_that_came() -> None:
    assert torch.equal(combine_reads("mean", [(B, True), (C, True)], 3)[0], A * 4)
    value, came = combine_reads("mean", [(torch.where(SOME.unsqueeze(1), B, 0.0), SOME), (C, True)], 2)
    assert value.tolist() == [[4, 4, 4], [6, 6, 6]]
    assert came is True


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([True, False], True),
        ([SOME, True], True),
        ([False, False], False),
        ([False, SOME], SOME),
        ([OTHER, ~SOME], ~SOME),
    ],
)
def test_something_came_where_any_did(
    flags: list[bool | torch.Tensor], expected: bool | torch.Tensor
) -> None:
    _, came = combine_reads("mean", [(A, flag) for flag in flags], 2)
    assert type(came) is type(expected)
    assert torch.equal(torch.as_tensor(came), torch.as_tensor(expected))
