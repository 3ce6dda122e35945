"""Replicas: a member's rows of a signal are those of its own copy of the environment."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from antiphon.engine.core.rows import Replicas, select_rows

BATCH = 4


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("each", "count"), [([0, 0, 0], 1), ([0], 1), ([0, 1, 2], 3), ([2, 0, 0, 1], 3), ([1, 1], 2), ([1, 0], 2)]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_a_member_s_rows_of_a_signal_are_its_replica_s(
    each: list[int], count: int, shape: tuple[int, ...]
) -> None:
    replicas = Replicas(each, count, BATCH)
    signal = drawn(count * BATCH, *shape)
    expected = [signal[replica * BATCH : (replica + 1) * BATCH] for replica in each]
    assert torch.equal(replicas.by_member(signal), torch.stack(expected))
    assert torch.equal(replicas.to_rows(signal), torch.cat(expected))


def test_picking_rows() -> None:
    rows = drawn(3 * BATCH, 2)
    assert select_rows(rows, None, BATCH) is rows
    assert torch.equal(select_rows(rows, torch.tensor([2, 2]), BATCH), rows[2 * BATCH :].repeat(2, 1))
