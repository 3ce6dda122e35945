"""Fan-in joins observations and messages along dimension 1."""

from __future__ import annotations

import pytest
import torch

from antiphon.comms import Mask
from antiphon.comms.fan_in import Concatenation, FanIn, Mean, Sum
from antiphon.comms.read_modes import ReadConcat, ReadMean

A, B, C = (torch.full((2, 3), float(value)) for value in (1, 2, 6))


def test_concat_keeps_the_order() -> None:
    assert FanIn(Concatenation).join([A], [B, C], [Mask.of(True), Mask.of(True)]).tolist()[0] == [
        1,
        1,
        1,
        2,
        2,
        2,
        6,
        6,
        6,
    ]
    assert FanIn(Concatenation).join([A], [], []) is A


def test_sum_and_mean_stand_after_the_observations() -> None:
    assert FanIn(Sum).join([A], [B, C], [Mask.of(True), Mask.of(True)]).tolist()[0] == [1, 1, 1, 8, 8, 8]
    assert FanIn(Mean).join([A], [B, C], [Mask.of(True), Mask.of(True)]).tolist()[0] == [1, 1, 1, 4, 4, 4]
    assert FanIn(Sum).join([], [B], [Mask.of(True)]) is B
    assert FanIn(Mean).join([A, B], [], []).shape == (2, 6)


def test_mean_counts_what_came() -> None:
    silence = torch.zeros_like(A)
    assert torch.equal(
        FanIn(Mean).join([], [B, silence, C], [Mask.of(True), Mask.of(False), Mask.of(True)]), A * 4
    )
    assert torch.equal(FanIn(Mean).join([], [silence, silence], [Mask.of(False), Mask.of(False)]), silence)


# --- several messages of one channel -------------------------------------------------------------------------

SOME, OTHER = Mask.of(torch.tensor([True, False])), Mask.of(torch.tensor([False, False]))


def test_zeros_stand_for_the_oldest_where_there_are_fewer() -> None:
    value, came = ReadConcat(3).combine([(B, Mask.of(True)), (C, Mask.of(True))])
    assert value.tolist()[0] == [0, 0, 0, 2, 2, 2, 6, 6, 6], "the oldest first"
    assert came is Mask.of(True)
    value, came = ReadConcat(2).combine([(torch.zeros_like(A), Mask.of(False))])
    assert value.shape == (2, 6)
    assert not value.any()
    assert came is Mask.of(False)


def test_the_mean_is_over_those_that_came() -> None:
    assert torch.equal(ReadMean(3).combine([(B, Mask.of(True)), (C, Mask.of(True))])[0], A * 4)
    value, came = ReadMean(2).combine([(SOME.zero_elsewhere(B), SOME), (C, Mask.of(True))])
    assert value.tolist() == [[4, 4, 4], [6, 6, 6]]
    assert came is Mask.of(True)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([Mask.of(True), Mask.of(False)], Mask.of(True)),
        ([SOME, Mask.of(True)], Mask.of(True)),
        ([Mask.of(False), Mask.of(False)], Mask.of(False)),
        ([Mask.of(False), SOME], SOME),
        ([OTHER, ~SOME], ~SOME),
    ],
)
def test_something_came_where_any_did(flags: list[Mask], expected: Mask) -> None:
    _, came = ReadMean(2).combine([(A, flag) for flag in flags])
    assert type(came) is type(expected)
    assert torch.equal(came.tensor(2, A.device), expected.tensor(2, A.device))
