"""Replicas: which copy of the environment the members of a stack live in.

One run has one environment of B lanes. Several seeds that run as one have one each, and a signal is [replicas * B, …].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Members", "Replicas", "select_rows"]

Members = Tensor | None
"""[N] or [K] bool, on the CPU: some members of a stack; None: all."""


class Replicas:
    """The replica of each member of a stack, and so which lanes of a signal are its own.

    Args:
        each: Replica of every member.
        count: Number of replicas.
        batch: B.
        device: Where signals are.
    """

    def __init__(
        self, each: Sequence[int] = (0,), count: int = 1, batch: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.count, self.batch, self.members = count, batch, len(each)
        self.in_order = list(each) == list(range(count))
        self.index = torch.tensor(each, device=device)
        self._shared = self.members == self.count == 1

    def by_member(self, signal: Tensor) -> Tensor:
        """A signal of all replicas, [replicas * B, …], by member, [members, B, …]."""
        each = signal.view(self.count, self.batch, *signal.shape[1:])
        if self.in_order:
            return each
        if self.count == 1:
            return each.expand(self.members, *each.shape[1:])
        return each.index_select(0, self.index)

    def to_rows(self, signal: Tensor) -> Tensor:
        """A signal of all replicas for the members' rows, [members * B, …]."""
        return signal if self._shared else self.by_member(signal).flatten(0, 1)


def select_rows(rows: Tensor, index: Tensor | None, batch: int) -> Tensor:
    """The rows of the members at `index`, [len(index) * B, …]; None: all of them, unchanged."""
    if index is None:
        return rows
    return rows.reshape(-1, batch, *rows.shape[1:]).index_select(0, index).flatten(0, 1)
