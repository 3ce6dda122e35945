"""A room with a key in one corner and a door in the opposite one, `antiphon/KeyDoor-v0`."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Discrete
from pydantic import Field
from torch import Tensor

from antiphon.envs.signal import Description, Signal
from antiphon.envs.worlds.world import Actions, State, World

_MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Change of column and row for each action."""


class KeyDoor(World):
    """A room in which only reaching the door with the key is rewarded.

    Description:
        A square room of `size` x `size` cells. The key is one cell away from the upper left corner, the door one cell away
        from the lower right corner. Entering the key's cell picks up the key. From the middle of 13 x 13 cells the shortest
        path is 30 steps.
    Action space:
        `Discrete(4)`: a step to the right (0), left (1), down (2), up (3); no movement into a wall.
    Observation space:
        `observation` [5]: column and row, scaled to [-1, 1]; 1.0 with the key, else 0.0; 1.0 in the key's cell; 1.0 in the
        door's cell. `position` [3]: the first three.
    Rewards:
        1.0 for entering the door's cell with the key, else 0.0.
    Episode end:
        Terminated with the reward; truncated after `limit` steps.
    """

    class Options(World.Options):
        size: int = Field(13, ge=5, le=201)
        """Cells along each side of the room."""

    @staticmethod
    def describe(options: Options) -> Description:
        shapes = {"observation": (5,), "position": (3,)}
        signals = {name: Signal(shape=shape, low=-1.0, high=1.0) for name, shape in shapes.items()}
        return Description(signals=signals, action_space=Discrete(4))

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        super().__init__(num_envs, options, **settings)
        size, cells = options.size, options.size**2
        column, row = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        squares = torch.stack([column.flatten(), row.flatten()], 1)
        near, self._middle = (squares == 1).all(1), size // 2 * (size + 1)
        far = (squares == size - 2).all(1)
        self._key, self._door = int(near.nonzero()), int(far.nonzero())
        reached = (squares + torch.tensor(_MOVES).unsqueeze(1)).clamp_(0, size - 1)
        self._reached = (reached[..., 0] * size + reached[..., 1]).flatten().to(self.device)
        """The cell after each action and cell."""
        position = squares * (2 / (size - 1)) - 1
        seen = torch.cat([position, torch.zeros(cells, 1), near.view(-1, 1), far.view(-1, 1)], 1)
        with_key = seen.clone()
        with_key[:, 2] = 1
        self._observed = torch.cat([seen, with_key]).to(self.device, self.dtype)
        """Observation in each cell, without and with the key."""
        self._cells = cells

    def start(self, uniforms: Tensor) -> State:
        cell = torch.full((self.num_envs,), self._middle, device=self.device)
        return {"cell": cell, "key": cell == self._key}

    def transition(self, state: State, actions: Actions) -> tuple[State, Tensor, Tensor]:
        cell = self._reached[actions["action"] * self._cells + state["cell"]]
        key = state["key"] | (cell == self._key)
        opened = key & (cell == self._door)
        return {"cell": cell, "key": key}, opened.to(self.dtype), opened

    def observe(self, state: State) -> dict[str, Tensor]:
        observation = self._observed[state["cell"] + state["key"] * self._cells]
        return {"observation": observation, "position": observation[:, :3]}
