"""Base class of environments whose rows play against each other."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from antiphon.base.errors import ScenarioError, require
from antiphon.envs.worlds.world import State, World

_START = 1000.0
"""Rating of a member that has played no game."""
_SLOPE = math.log(10) / 800
"""Slope of the expected result, between -1 and 1: the tanh of this times the difference of ratings (Elo's scale, 400 points)."""
_GAIN = 200.0
"""Points of rating for a win rate 1 above the expected one: a difference of ratings closes by half in an episode or two."""
_NOISE = 1 / (3 * _SLOPE * math.sqrt(2))
"""Standard deviation of the noise on each rating in pairings: 82 points."""


class Arena(World):
    """Environments of which two rows play a game, each computing its own side.

    A subclass describes one side. Its transition and observations read the other side from the rows `opponents(state)`; where
    both apply the same rules to the same integers, the sides agree. All episodes end together, so `describe` sets
    `episode_steps`.

    The first episode pairs the rows of a batch at random. At its end the member's rating, 1000 at first, changes by 200 times
    its win rate (a draw: half a win) above the expected one, 1 / (1 + 10 ** ((rating of the opponent - own) / 400)). The sum of
    all ratings stays the same, also where a member is copied: the copy keeps its rating until its games change it.

    Then members of near ratings meet: the first rows of all members, their second rows and so on are each sorted by rating plus
    normal noise, and neighbours play. Noise of 1600 / (6 ln 10 sqrt 2) gives the expected win rate a standard deviation of about
    1/6 where many members are near, as the matchmaking of Jaderberg et al. (2019, "Human-level performance in 3D multiplayer
    games with population-based reinforcement learning") has. No member plays itself, so that a copy's rating rises soon.

    A row that is left over, or whose opponent is not in the batch (of a member that was saved in a league and goes on alone),
    plays against its own mirror image until the episode ends.
    """

    class Options(World.Options):
        """Options of every arena."""

        league: bool = Field(False)
        """Whether members of a population play against each other, and have the metric `rating`; else each plays itself."""

    def __init__(self, num_envs: int, options: Arena.Options, **settings: Any) -> None:
        super().__init__(num_envs, options, **settings)
        self.league = options.league
        fix = "the episodes of an Arena end together; set episode_steps in its Description"
        require(self.episode_steps is not None, "env", fix, ScenarioError)

    @abstractmethod
    def points(self, state: State) -> Tensor:
        """Return the points of each row in its game so far `[batch]`: whoever has more at the end has won."""

    def opponents(self, state: State) -> Tensor:
        """Return the row that each row plays against, int64 `[batch]`."""
        rows = torch.arange(self.num_envs, device=self.device)
        opponents = rows + state["opponent"]
        return torch.where((opponents >= 0) & (opponents < self.num_envs), opponents, rows)

    def carry_over(self, state: State) -> State:
        """Return ratings and pairs after the games that have ended."""
        opponents, rating, points = self.opponents(state), state["rating"], self.points(state)
        lead = (points - points[opponents]).sign()
        expected = torch.tanh(_SLOPE * (rating - rating[opponents]))  # odd: both sides sum to exactly 0
        surplus = lead - expected
        per_world = surplus.view(1 + len(self._others), -1)
        rating = rating + _GAIN / 2 * per_world.mean(1, keepdim=True).expand_as(per_world).flatten()
        return {"rating": rating, "opponent": self._paired(rating), "lead": lead.long()}

    def go_on_with(self, staying: Sequence[int], place: int, worlds: int) -> None:
        """Keep the opponents that stay; where one leaves, the row plays against its own mirror image until the episode ends."""
        rows = torch.arange(self.num_envs, device=self.device)
        new_index = torch.full((worlds,), -1, device=self.device)
        new_index[list(staying)] = torch.arange(len(staying), device=self.device)
        opponent_row = place * self.num_envs + rows + self._state["opponent"]
        is_inside = (opponent_row >= 0) & (opponent_row < worlds * self.num_envs)
        after = new_index[torch.where(is_inside, opponent_row // self.num_envs, place)]
        offset = (after - new_index[place]) * self.num_envs + opponent_row % self.num_envs - rows
        self._state = {**self._state, "opponent": torch.where(is_inside & (after >= 0), offset, 0)}

    def metrics(self) -> dict[str, float | Tensor]:
        """Return which of the newest finished games are `won` and `drawn`, `[batch]`, and in a league the `rating`."""
        metrics: dict[str, float | Tensor] = {}
        if self._state and self.league:
            metrics["rating"] = float(self._state["rating"][0])
        if self._state and (lead := self._state["lead"])[0] > -2:
            metrics |= {"won": lead > 0, "drawn": lead == 0}
        return metrics

    def _started(self) -> State:
        rating = torch.full((self.num_envs,), _START, dtype=torch.float64, device=self.device)
        pairs = {"rating": rating, "opponent": self._paired(rating)}
        return {**super()._started(), **pairs, "lead": torch.full_like(pairs["opponent"], -2)}

    def _paired(self, rating: Tensor) -> Tensor:
        """Return how many rows after each row its opponent is, int64 `[batch]`; so it is the same in any batch of members."""
        noise = torch.special.ndtri(self._sampled(1, "pairs").flatten())  # normal; -inf is sorted, too
        key = rating + _NOISE * noise
        table = torch.arange(self.num_envs, device=self.device).view(1 + len(self._others), -1)
        meet = self.league and len(table) > 1
        table = table.T if meet else table  # in each of its rows, who may play each other
        order = table.gather(1, key[table].argsort(dim=1, stable=True))
        even = order.shape[1] // 2 * 2
        pairs = order[:, :even].reshape(-1, 2)
        if meet and even < order.shape[1]:  # members are odd: of each row of the table, one is left over
            pairs = torch.cat([pairs, order[: len(order) // 2 * 2, -1].view(-1, 2)])
        offsets = torch.zeros_like(key, dtype=torch.int64)
        offsets[pairs] = pairs.flip(1) - pairs
        return offsets
