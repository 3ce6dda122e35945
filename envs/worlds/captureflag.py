"""Two teams that capture each other's flag on a grid, `antiphon/CaptureFlag-v0`."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Dict, Discrete
from pydantic import Field
from torch import Tensor

from antiphon.envs.signal import Description, Signal
from antiphon.envs.worlds.arena import Arena
from antiphon.envs.worlds.world import Actions, State

_PLAYERS = ("player0", "player1")
_EVENTS = ("reward", "capture", "pickup", "tag", "tagged")
"""Signals of each player that are known after the step."""
_MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
"""Change of place for each action."""
_ORDER = ((0, 1, 2, 3), (1, 0, 2, 3))
"""Players of the own and the opposing team in the order in which each of the own observes them."""


class CaptureFlag(Arena):
    """Capture the flag, two against two.

    Description:
        A simplified, two-dimensional form of the game of Jaderberg et al. (2019), "Human-level performance in 3D multiplayer
        games with population-based reinforcement learning". A row is a team of two, and plays against the team of another row
        (`Arena`). A team's base is the middle of its wall of `size` x `size` cells, and holds its flag. All players move at
        once. Then a player in the opponents' half and in the cell of an opponent is tagged: it goes to its base, and a flag
        that it carries goes back. A player in the opponents' base picks up the flag if it is there; of two team mates, the one
        with precedence, which is random in each episode. Bringing the flag to the own base is a capture, and the flag goes
        back.
    Action space:
        A Dict of `player0` and `player1`, each `Discrete(5)`: stay (0), a step towards the opponents' wall (1), the own wall (2),
        down (3), up (4); no movement into a wall.
    Observation space:
        `player0`, `player1` [13]: column and row, scaled to [-1, 1], of the player, its team mate and the opponents; for each of
        them in this order 1.0 with a flag, else 0.0; the share of the episode that is left. Columns increase towards the
        opponents: both teams see the same game.
    Rewards:
        `reward.PLAYER` and `reward`: captures of the own team minus captures of the opponents in the step. Further signals for
        rewards, 1.0 or 0.0: `capture.PLAYER`, `pickup.PLAYER`, `tag.PLAYER` (it has tagged), `tagged.PLAYER`.
    Episode end:
        Truncated after `limit` steps, all rows at once. The team with more captures has won.
    """

    randoms = 3

    class Options(Arena.Options):
        size: int = Field(7, ge=7, le=99)
        """Cells along each side of the field."""
        limit: int = Field(50, ge=1)
        """Steps of every episode."""

    @staticmethod
    def describe(options: Options) -> Description:
        signals = {player: Signal(shape=(13,), low=-1.0, high=1.0) for player in _PLAYERS}
        event = Signal(training_only=True, known="after_step")
        signals |= {f"{name}.{player}": event for name in _EVENTS for player in _PLAYERS}
        actions = Dict({player: Discrete(len(_MOVES)) for player in _PLAYERS})
        return Description(signals=signals, episode_steps=options.limit, action_space=actions)

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        super().__init__(num_envs, options, **settings)
        self._size = options.size
        middle, last = options.size // 2, options.size - 1
        self._moves, self._order = (torch.tensor(table, device=self.device) for table in (_MOVES, _ORDER))
        self._base, self._flag = torch.tensor([[0, middle], [last, middle]], device=self.device)

    # Places are (column, row), the columns counted from the own wall: all rules are the same for both teams.

    def start(self, uniforms: Tensor) -> State:
        rows = (uniforms[:, :2] * self._size).long()
        precedes = uniforms[:, 2] < 0.5
        return {
            "place": torch.stack([torch.zeros_like(rows), rows], 2),
            "carries": torch.zeros_like(rows, dtype=torch.bool),
            "precedes": torch.stack([precedes, ~precedes], 1),
            "captures": torch.zeros_like(rows[:, 0]),
            "captures_before": torch.zeros_like(rows[:, 0]),
            "events": torch.zeros(self.num_envs, len(_EVENTS), 2, device=self.device, dtype=self.dtype),
        }

    def carry_over(self, state: State) -> State:
        return {**super().carry_over(state), "captures_before": state["captures"]}

    def transition(self, state: State, actions: Actions) -> tuple[State, Tensor, Tensor]:
        """Move all players, then send those home who are tagged, then move the flags."""
        opponents, last = self.opponents(state), self._size - 1
        chosen = torch.stack([actions[player] for player in _PLAYERS], 1)
        position = (state["place"] + self._moves[chosen]).clamp(0, last)
        column, row = position.unsqueeze(2).unbind(3)  # [batch, own player, 1]
        column_there, row_there = position[opponents].unsqueeze(1).unbind(3)  # [batch, 1, opponent]
        meets = (column + column_there == last) & (row == row_there)
        tagged = (meets & (2 * column > last)).any(2)
        tag = (meets & (2 * column_there > last)).any(2)
        position = torch.where(tagged.unsqueeze(2), self._base, position)
        carries = state["carries"] & ~tagged
        reaches = (position == self._flag).all(2)
        flag_free, alone = ~carries.any(1, keepdim=True), ~reaches.all(1, keepdim=True)
        pickup = reaches & flag_free & (alone | state["precedes"])
        carries = carries | pickup
        capture = carries & (position == self._base).all(2)
        captures = capture.sum(1)
        score = captures - captures[opponents]
        events = torch.stack([score.unsqueeze(1).expand(-1, 2), capture, pickup, tag, tagged], 1)
        reached = {"place": position, "carries": carries & ~capture, "events": events.to(self.dtype)}
        reached["captures"] = state["captures"] + captures
        return reached, events[:, 0, 0], torch.zeros_like(alone[:, 0])

    def observe(self, state: State) -> dict[str, Tensor]:
        opponents = self.opponents(state)
        position = state["place"].to(self.dtype) * 2 / (self._size - 1) - 1
        column, row = position[opponents].unbind(2)
        positions = torch.cat([position, torch.stack([-column, row], 2)], 1)[:, self._order].flatten(2)
        carries = state["carries"].to(self.dtype)
        flags = torch.cat([carries, carries[opponents]], 1)[:, self._order]
        time_left = (1 - state["elapsed"].to(self.dtype) / self._limit).view(-1, 1, 1).expand(-1, 2, 1)
        return dict(zip(_PLAYERS, torch.cat([positions, flags, time_left], 2).unbind(1), strict=True))

    def outcomes(self, state: State) -> dict[str, Tensor]:
        names = (f"{name}.{player}" for name in _EVENTS for player in _PLAYERS)
        return dict(zip(names, state["events"].flatten(1).unbind(1), strict=True))

    def points(self, state: State) -> Tensor:
        return state["captures"]

    def metrics(self) -> dict[str, float | Tensor]:
        """Return the metrics of an arena, and `captures` of the own team in the newest finished episodes, `[batch]`."""
        metrics = super().metrics()
        if "won" in metrics:
            metrics["captures"] = self._state["captures_before"]
        return metrics
