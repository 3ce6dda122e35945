"""Prisoners who share a switch, `antiphon/SwitchRiddle-v0`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict, Discrete
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from antiphon.envs.signal import ID, Description, Signal
from antiphon.envs.worlds.canvas import BLACK, Canvas
from antiphon.envs.worlds.world import Actions, State, World

_CELL = 40
"""Pixels of a prisoner in an image."""


class SwitchRiddle(World):
    """The switch riddle of Foerster et al. (2016), "Learning to communicate with deep multi-agent reinforcement learning", 6.2.

    Description:
        On each day one of the prisoners, chosen at random, is in a room with a switch. It sees how the one who was there the day
        before has left the switch, and sets it. It may tell that all have been in the room, which ends the game. What is left on
        the switch goes over channels whose `mask` is `switch.A.B`, not through the environment.
    Action space:
        A Dict with a `Discrete(2)` for each prisoner: nothing (0), or tell (1), which has an effect in the room alone.
    Observation space:
        `prisoner_0.in_room`: 1.0 on a day in the room, else 0.0. `prisoner_0.action_mask` [2]: 1.0 for what it may do.
        `id.prisoner_0`: its number. `info` has `been` [prisoners], 1.0 for those who have been in the room, today included;
        `switch.prisoner_0.prisoner_1`, 1.0 where the first is in the room today and the second tomorrow; and after a step
        `reward.prisoner_0`, which is masked when the game is over.
    Rewards:
        For all: 1.0 for telling if all have been in the room, -1.0 if not, else 0.0.
    Starting state:
        The first day; nobody has been in the room before.
    Episode end:
        Terminated after `limit` days, all copies at once. After the game the room stays empty until then.
    """

    limit_terminates = True

    class Options(World.Options):
        """Options of the switch riddle."""

        prisoners: int = Field(3, ge=2, le=64)
        """Number of prisoners."""
        limit: int = Field(6, ge=1)
        """Days of every episode: 4 prisoners - 6 in the paper."""

    @staticmethod
    def describe(options: Options) -> Description:
        names = _names(options.prisoners)
        flag, hidden = Signal(low=0.0, high=1.0), Signal(low=0.0, high=1.0, training_only=True)
        signals = {f"{name}.in_room": flag for name in names}
        signals |= {f"{name}.action_mask": Signal(shape=(2,), low=0.0, high=1.0) for name in names}
        signals |= {f"{ID}.{name}": Signal(classes=len(names)) for name in names}
        signals["been"] = Signal(shape=(len(names),), low=0.0, high=1.0, training_only=True)
        signals |= {_switch(sender, reader): hidden for sender in names for reader in names}
        signals |= {f"reward.{name}": Signal(training_only=True, known="after_step") for name in names}
        actions = Dict({name: Discrete(2) for name in names})
        return Description(signals=signals, episode_steps=options.limit, action_space=actions)

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        super().__init__(num_envs, options, **settings)
        self._names = _names(options.prisoners)
        self._numbers = torch.arange(options.prisoners, device=self.device)
        self.randoms = options.limit

    def start(self, uniforms: Tensor) -> State:
        """Return games in which it is decided who is in the room on which day."""
        return {
            "order": (uniforms * len(self._names)).long(),
            "been": torch.zeros(self.num_envs, len(self._names), dtype=torch.bool, device=self.device),
            "over": torch.zeros(self.num_envs, dtype=torch.bool, device=self.device),
            "played": torch.zeros(self.num_envs, dtype=torch.bool, device=self.device),
        }

    def transition(self, state: State, actions: Actions) -> tuple[State, Tensor, Tensor]:
        """Reward those who tell."""
        inside = self._inside(state, 0)
        been = state["been"] | inside
        chosen = torch.stack([actions[name] for name in self._names], 1)
        tells = (inside & (chosen == 1)).any(1)
        reward = torch.where(tells, torch.where(been.all(1), 1.0, -1.0), 0.0)
        reached = {"been": been, "over": state["over"] | tells, "played": ~state["over"]}
        return reached, reward, torch.zeros_like(tells)

    def observe(self, state: State) -> dict[str, Tensor]:
        """Return who is in the room, who has been there, and who reads the switch tomorrow."""
        inside, next_inside = self._inside(state, 0), self._inside(state, 1)
        values: dict[str, Tensor] = {"been": state["been"] | inside}
        for number, name in enumerate(self._names):
            is_inside = inside[:, number]
            values[f"{name}.in_room"] = is_inside
            values[f"{name}.action_mask"] = torch.stack([torch.ones_like(is_inside), is_inside], 1)
            values[f"{ID}.{name}"] = self._numbers[number].expand(self.num_envs)
            for index, reader in enumerate(self._names):
                values[_switch(name, reader)] = is_inside & next_inside[:, index]
        return values

    def outcomes(self, state: State) -> dict[str, Tensor]:
        """Return where a game was not over before the step, as the masks of all rewards."""
        return {f"_reward.{name}": state["played"].clone() for name in self._names}

    def _inside(self, state: State, days: int) -> Tensor:
        """Return who is in the room after so many days, bool `[batch, prisoners]`; nobody after the game."""
        day, order = state["elapsed"] + days, state["order"]
        goes_on = (day < order.shape[1]) & ~state["over"]
        in_room = order.gather(1, day.clamp(max=order.shape[1] - 1).unsqueeze(1))
        return (in_room == self._numbers) & goes_on.unsqueeze(1)

    def picture(self, state: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
        """Return an image with a square for each prisoner: dark who has been in the room, framed who is there."""
        count, day = len(self._names), int(state["elapsed"])
        canvas = Canvas(_CELL, count * _CELL)
        going = not state["over"] and day < len(state["order"])
        for number in range(count):
            left = number * _CELL
            if going and number == int(state["order"][day]):
                canvas.rectangle(left + 2, 2, left + _CELL - 3, _CELL - 3, BLACK)
            been = (70, 110, 170) if state["been"][number] else (220, 225, 235)
            canvas.rectangle(left + 6, 6, left + _CELL - 7, _CELL - 7, been)
        return canvas.pixels()


def _names(count: int) -> list[str]:
    return [f"prisoner_{number}" for number in range(count)]


def _switch(sender: str, reader: str) -> str:
    """Return the signal of the channel that the switch is from one prisoner, today, to another, tomorrow."""
    return f"switch.{sender}.{reader}"
