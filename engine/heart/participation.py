"""Participation: an agent learns from a window with a probability; each window is sampled (`learn`, rule 7)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from antiphon.base.mask import ALL, NONE, Mask
from antiphon.engine.heart.layout import Layout, LearningRows
from antiphon.nets.per_member import PerMember
from antiphon.nets.random import uniform_many


@dataclass(frozen=True, eq=False)
class Participation:
    """Samples which of the N >= 1 agents of a stack learn from a window.

    Attributes:
        probability: Probability that a member learns from a window.
        seeds: Seeds of the members' random numbers; tied agents have the same seed.
        layout: The members' rows.
    """

    probability: PerMember
    seeds: tuple[int, ...]
    layout: Layout
    _newest: dict[int, LearningRows] = field(default_factory=dict, init=False)
    """The result of `learning_rows` for the newest window, by its number."""

    def learning_rows(self, number: int) -> LearningRows:
        """Return the rows of the members that learn from the window of a number."""
        if number not in self._newest:
            members = uniform_many(torch.tensor(self.seeds), number, 1)[:, 0] < self.probability
            count = int(members.sum())
            self._newest.clear()
            differ = 0 < count < len(members)
            self._newest[number] = (
                Mask.of(self.layout.rows_of_members(members), True) if differ else ALL if count else NONE
            )
        return self._newest[number]
