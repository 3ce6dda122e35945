"""Participation: an agent learns from a window with a probability, drawn for each (semantics 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from antiphon.engine.heart.rows import RowMask
from antiphon.nets.random import uniform_many

__all__ = ["Participation"]


class Participation:
    """Who of a stack of N >= 1 agents learns from a window.

    Args:
        probability: Of each.
        seeds: Of the members' draws; tied agents have the same.
        batch: B, the rows of a member.
        device: Of masks.
    """

    def __init__(
        self, probability: float, seeds: Sequence[int], batch: int, device: torch.device | str
    ) -> None:
        self.probability, self.seeds = probability, tuple(seeds)
        self._seeds, self._batch, self._device = torch.tensor(seeds), batch, device
        self._newest: tuple[int, RowMask] = (-1, True)
        """The newest window asked for, and who learns from it."""

    @staticmethod
    def of_stack(members: Sequence[Participation]) -> Participation:
        """Return that of a stack of agents with the same probability."""
        seeds = [seed for own in members for seed in own.seeds]
        return Participation(members[0].probability, seeds, members[0]._batch, members[0]._device)

    def rows(self, window: int) -> RowMask:
        """Return the rows of those that learn from `window`."""
        if self._newest[0] != window:
            members = uniform_many(self._seeds, window, 1)[:, 0] < self.probability
            drawn = int(members.sum())
            rows = members.to(self._device).repeat_interleave(self._batch)
            self._newest = window, rows if 0 < drawn < len(members) else drawn > 0
        return self._newest[1]
