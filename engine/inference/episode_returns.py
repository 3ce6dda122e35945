"""The returns of the first whole episodes of each environment of an evaluation, and their means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from antiphon.engine.episodes import EpisodeStatistics


@dataclass(frozen=True)
class Episodes:
    """Mean return and length of whole episodes.

    Attributes:
        length: Their mean length in steps.
        returns: By reward, the mean sum of an episode's rewards, undiscounted.
        actions: `greedy` or `sampled`.
        steps: Steps that the evaluation took, in all environments at once.
        errors: By reward, the standard error of the mean return over the episodes; empty for a single episode.
    """

    count: int
    length: float
    returns: dict[str, float]
    actions: Literal["greedy", "sampled"]
    steps: int
    errors: dict[str, float]


class EpisodeReturns:
    """Length and returns of the first whole episodes of each environment, the same number of each.

    Args:
        statistics: Of environments at their first step.
        episodes: Episodes per environment.
    """

    def __init__(self, statistics: EpisodeStatistics, episodes: int) -> None:
        self._statistics, self._episodes = statistics, episodes
        self.steps = 0
        self._before = statistics.finished.clone()
        self._counted = torch.zeros_like(self._before)
        self._rewards = list(statistics.returns)
        # in double precision, as a sum of many episodes loses digits
        shape = 1 + len(self._rewards), episodes, len(self._counted)
        self._table = torch.zeros(shape, dtype=torch.float64, device=self._counted.device)

    @property
    def missing(self) -> int:
        """Environments that have not finished their episodes yet."""
        return int((self._counted < self._episodes).sum())

    def add(self) -> bool:
        """Count the episodes that the newest step has finished, and return whether there are any.

        An environment's episodes beyond the number that is counted are left out.
        """
        self.steps += 1
        finished = self._statistics.finished
        new = (finished > self._before) & (self._counted < self._episodes)
        self._before = finished
        if not bool(new.any()):
            return False
        newest = torch.stack([self._statistics.lengths, *self._statistics.returns.values()])
        self._table[:, self._counted[new], new.nonzero()[:, 0]] = newest[:, new].to(self._table)
        self._counted = self._counted + new
        return True

    @property
    def returns(self) -> dict[str, Tensor]:
        """By reward, the return of each episode that is counted, [episodes, environments]; the table is complete."""
        return dict(zip(self._rewards, self._table[1:], strict=True))

    @property
    def lengths(self) -> Tensor:
        """The steps of each episode that is counted, [episodes, environments]; the table is complete."""
        return self._table[0].long()

    def means(self, actions: Literal["greedy", "sampled"]) -> Episodes:
        """Return the means over the episodes that are counted; the table is complete."""
        counted = self._table.flatten(1)
        count, (length, *returns) = counted.shape[1], counted.mean(1).tolist()
        named = dict(zip(self._rewards, returns, strict=True))
        errors: dict[str, float] = {}
        if count > 1:
            deviations: Tensor = counted[1:].std(1)
            standard_errors = (deviations / math.sqrt(count)).tolist()
            errors = dict(zip(self._rewards, standard_errors, strict=True))
        return Episodes(count, length, named, actions, self.steps, errors)
