"""Fan-in joins observations and messages along dimension 1."""

from __future__ import annotations

import torch

from antiphon.comms import Mask
from antiphon.comms.fan_in import Concatenation, FanIn, Mean
from antiphon.comms.read_modes import ReadMean

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


def test_mean_counts_what_came() -> None:
    silence = torch.zeros_like(A)
    assert torch.equal(
        FanIn(Mean).join([], [B, silence, C], [Mask.of(True), Mask.of(False), Mask.of(True)]), A * 4
    )
    assert torch.equal(FanIn(Mean).join([], [silence, silence], [Mask.of(False), Mask.of(False)]), silence)


# --- several messages of one channel -------------------------------------------------------------------------

SOME, OTHER = Mask.of(torch.tensor([True, False])), Mask.of(torch.tensor([False, False]))


def test_the_mean_is_over_those_that_came() -> None:
    assert torch.equal(ReadMean(3).combine([(B, Mask.of(True)), (C, Mask.of(True))])[0], A * 4)
    value, came = ReadMean(2).combine([(SOME.zero_elsewhere(B), SOME), (C, Mask.of(True))])
    assert value.tolist() == [[4, 4, 4], [6, 6, 6]]
    assert came is Mask.of(True)
