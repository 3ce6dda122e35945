"""Participation: an agent learns from a window with a probability, sampled for each (semantics 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from antiphon.engine.heart.rows import Replicas, RowMask
from antiphon.nets.random import uniform_many

__all__ = ["Participation"]


class Participation:
    """Who of a stack of N >= 1 agents learns from a window.

    Args:
        probability: Of each.
        seeds: Of the members' draws; tied agents have the same.
        replicas: The members' rows.
    """

    def __init__(self, probability: float, seeds: Sequence[int], replicas: Replicas) -> None:
        self.probability, self.seeds = probability, tuple(seeds)
        self._seeds, self._replicas = torch.tensor(seeds), replicas
        self._newest: tuple[int, RowMask] = (-1, True)
        """The newest window asked for, and who learns from it."""

    @staticmethod
    def of_stack(members: Sequence[Participation], replicas: Replicas) -> Participation:
        """Return that of a stack of agents with the same probability."""
        return Participation(members[0].probability, [own.seeds[0] for own in members], replicas)

    def rows(self, window: int) -> RowMask:
        """Return the rows of those that learn from `window`."""
        if self._newest[0] != window:
            members = uniform_many(self._seeds, window, 1)[:, 0] < self.probability
            drawn = int(members.sum())
            rows = self._replicas.rows_of(members) if 0 < drawn < len(members) else drawn > 0
            self._newest = window, rows
        return self._newest[1]
