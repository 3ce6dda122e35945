"""Participation: an agent learns from a window with a probability; each window is sampled (`learn`, rule 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from antiphon.base.mask import ALL, NONE, Mask
from antiphon.engine.heart.layout import Layout
from antiphon.nets.per_member import PerMember
from antiphon.nets.random import uniform_many


@dataclass(frozen=True, eq=False)
class Participation:
    """Samples which of the N >= 1 agents of a stack learn from a window.

    Attributes:
        probability: Probability that a member learns from a window.
        random_seeds: Seeds of the members' random numbers; tied agents have the same seed.
    """

    probability: PerMember
    random_seeds: tuple[int, ...]
    layout: Layout

    def learning_rows(self, window_number: int) -> Mask:
        """Return the rows of the members that learn from a window."""
        learns = uniform_many(torch.tensor(self.random_seeds), window_number, 1)[:, 0] < self.probability
        learning_count = int(learns.sum())
        if 0 < learning_count < len(learns):
            return Mask.of(self.layout.rows_from_members(learns), True)
        return ALL if learning_count else NONE
