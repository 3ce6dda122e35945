"""Participation: an agent learns from a window with a probability, sampled for each (semantics 7)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from antiphon.base.mask import ALL, NONE, Mask
from antiphon.engine.heart.layout import Layout
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
    _newest: dict[int, Mask] = field(default_factory=dict, init=False)
    """The newest window asked for, and who learns from it."""

    def rows(self, window: int) -> Mask:
        """Return the rows of those that learn from `window`."""
        if window not in self._newest:
            members = uniform_many(torch.tensor(self.seeds), window, 1)[:, 0] < self.probability
            count = int(members.sum())
            self._newest.clear()
            differ = 0 < count < len(members)
            self._newest[window] = (
                Mask.of(self.layout.rows_of(members), True) if differ else ALL if count else NONE
            )
        return self._newest[window]
