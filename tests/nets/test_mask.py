"""Masks against plain tensors of bool, in all combinations, and what they never ask of a device."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from antiphon.comms import Mask

ALL, NONE = Mask.of(True), Mask.of(False)
CPU = torch.device("cpu")
PLAIN: dict[str, bool | Tensor] = {
    "all": True,
    "none": False,
    "some": torch.tensor([True, False, True, False]),
    "others": torch.tensor([False, False, True, True]),
    "rest": torch.tensor([False, True, False, True]),
    "full": torch.ones(4, dtype=torch.bool),
    "empty": torch.zeros(4, dtype=torch.bool),
}
VALUES, OTHERS = torch.arange(1.0, 13).view(4, 3), -torch.ones(4, 3)


def rows_of(plain: bool | Tensor) -> Tensor:
    """The model of a mask: its rows as a tensor."""
    return plain.clone() if isinstance(plain, Tensor) else torch.full((4,), plain)


def masks_of(plain: bool | Tensor) -> list[Mask]:
    """A mask as one that nothing is known of, and as one of which the host knows whether it holds anywhere."""
    return [Mask.of(plain), Mask.of(plain, bool(rows_of(plain).any()))]


def check(mask: Mask, rows: Tensor) -> None:
    """Compare a mask with its rows; what it knows without a look is true."""
    assert mask.known_anywhere in (None, bool(rows.any()))
    assert torch.equal(mask.tensor(4, CPU), rows)
    assert torch.equal(rows_of(mask.plain), rows)
    assert torch.equal(mask.where(VALUES, OTHERS), torch.where(rows.unsqueeze(1), VALUES, OTHERS))
    assert torch.equal(mask.zero_elsewhere(VALUES), VALUES * rows.unsqueeze(1))
    assert torch.equal(mask.map(lambda own: own.flip(0)).tensor(4, CPU), rows.flip(0))
    assert mask.everywhere is bool(rows.all())
    assert mask.anywhere is bool(rows.any())
    assert mask.known_anywhere is mask.anywhere, "one look is enough"


@pytest.mark.parametrize("name", PLAIN)
def test_a_mask_is_its_rows_and_its_complement_the_others(name: str) -> None:
    for mask in masks_of(PLAIN[name]):
        check(mask, rows_of(PLAIN[name]))
        check(~mask, ~rows_of(PLAIN[name]))
        check(~~mask, rows_of(PLAIN[name]))


@pytest.mark.parametrize(("one", "other"), list(itertools.product(PLAIN, PLAIN)))
def test_two_masks_are_combined_by_rows(one: str, other: str) -> None:
    rows, others = rows_of(PLAIN[one]), rows_of(PLAIN[other])
    for a, b in itertools.product(masks_of(PLAIN[one]), masks_of(PLAIN[other])):
        check(a & b, rows & others)
        check(a | b, rows | others)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_the_same_in_all_rows_costs_no_tensor(name: str) -> None:
    mask = Mask.of(PLAIN[name])
    assert (mask & ALL) is (ALL & mask) is (mask | NONE) is (NONE | mask) is mask
    assert (mask & NONE) is (NONE & mask) is ~ALL is NONE
    assert (mask | ALL) is (ALL | mask) is ~NONE is ALL
    assert ALL.zero_elsewhere(VALUES) is ALL.where(VALUES, OTHERS) is NONE.where(OTHERS, VALUES) is VALUES


def test_a_mask_of_ticks_and_rows_fills_what_has_them() -> None:
    ticks = torch.tensor([[True, False], [False, True], [True, True]])
    values = torch.ones(3, 2, 5)
    assert Mask.of(ticks).zero_elsewhere(values).sum((1, 2)).tolist() == [5, 5, 10]
    assert Mask.of(ticks).zero_elsewhere(values[..., 0]).sum() == 4
