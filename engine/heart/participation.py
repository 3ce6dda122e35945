"""Participation: an agent learns from a window with a probability, sampled for each (semantics 7)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from antiphon.engine.heart.layout import Layout
from antiphon.engine.heart.rows import RowMask
from antiphon.nets.per_member import PerMember
from antiphon.nets.random import uniform_many


@dataclass(frozen=True, eq=False)
class Participation:
    """Who of a stack of N >= 1 agents learns from a window.

    Attributes:
        probability: Of each.
        seeds: Of the members' draws; tied agents have the same.
        layout: The members' rows.
    """

    probability: PerMember
    seeds: tuple[int, ...]
    layout: Layout
    _newest: dict[int, RowMask] = field(default_factory=dict, init=False)
    """The newest window asked for, and who learns from it."""

    def rows(self, window: int) -> RowMask:
        """Return the rows of those that learn from `window`."""
        if window not in self._newest:
            members = uniform_many(torch.tensor(self.seeds), window, 1)[:, 0] < self.probability
            drawn = int(members.sum())
            self._newest.clear()
            self._newest[window] = self.layout.rows_of(members) if 0 < drawn < len(members) else drawn > 0
        return self._newest[window]
