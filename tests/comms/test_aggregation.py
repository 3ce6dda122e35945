"""Fan-in joins observations and messages along dimension 1."""

from __future__ import annotations

import torch

from antiphon.comms import join

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


def test_maps_are_joined_by_channel() -> None:
    maps = torch.randn(2, 3, 4, 4)
    assert join("concat", [maps], [maps], [True]).shape == (2, 6, 4, 4)
    assert torch.equal(join("sum", [], [maps, maps], [True, True]), maps * 2)
