"""Character stream of a text: `antiphon/CharText-v0`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from antiphon.envs.base import StepResult, TorchVectorEnv, Values, single_lane
from antiphon.envs.datasets import texts
from antiphon.envs.options import TextOptions
from antiphon.errors import DataError, ScenarioError
from antiphon.nets.random import integers, seed_for

__all__ = ["CharText", "CharTextLane"]


class CharText(TorchVectorEnv):
    """A text, one character per step; the target is the next character.

    Description:
        The first 90 % of the text are the train split, the next 5 % validation, the rest test. A split is cut into
        as many stretches as there are environments; environment k begins with stretch k and goes on, round the
        split. In the train split the seed determines where the first stretch begins; the others begin at the start.
    Action space:
        One action, without effect.
    Observation space:
        `char` [classes], the character as a one-hot vector of floats. `info` has `next`, int64: the class of the
        character after it. Classes are the distinct characters of the train split, sorted, and a last one for
        every other character, which only validation and test can contain.
    Rewards:
        None: 0.0.
    Starting state:
        The first character of each environment's stretch.
    Episode end:
        Never.

    Args:
        options: The fields of `TextOptions`.

    Raises:
        ScenarioError: An option that cannot be, or more environments than the split has characters for.
        DataError: There is no such text, or it cannot be read.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        declared = TextOptions(**options)
        super().__init__(num_envs, declared.description(), Discrete(1), device=device, dtype=dtype)
        self.split, self._text = declared.split, declared.text
        read = texts.load(self._text)
        self._digest = read.digest
        self._codes = torch.from_numpy(read.splits[self.split]).to(self.device)
        self._stretch = len(self._codes) // num_envs
        if self._stretch < 2:
            raise ScenarioError(
                f"env.text: the {self.split} split of '{self._text}' has {len(self._codes)} characters, and {num_envs} lanes need "
                f"{2 * num_envs}; lower training.batch or give a longer text"
            )
        self._one_hot = torch.eye(read.classes, dtype=dtype, device=self.device)
        self._read = 0  # characters of each environment since the last seed
        self._begins = torch.empty(0)

    @property
    def evaluation_steps(self) -> int:
        """Steps in which every character of every stretch but the first is a target."""
        return self._stretch - 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Go to the beginning of a seed's stretches, or without a seed to the next character."""
        self._read = 0 if self._begin_seed(seed) else self._read + 1
        if self._read == 0:
            self._open()
        return self._signal_values()

    def step(self, actions: Any = None) -> StepResult:
        """Go on by a character; actions have no effect."""
        self._require_reset()
        self._read += 1
        return self._step_result(self._signal_values())

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the text: `seed`, the number of characters `read`, and which `text` it is."""
        return {"seed": self._seed, "read": self._read, "text": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a place in the text.

        Raises:
            DataError: The state is of another text.
        """
        if state["text"] != self._digest:
            raise DataError(
                f"env.text: '{self._text}' is not the text of before, its file having changed; "
                "put the old one back, or begin a new run"
            )
        self._seed, self._read = state["seed"], int(state["read"])
        if self._seed is not None:
            self._open()

    def _open(self) -> None:
        """Compute the beginnings of the stretches, int64 `[batch]`."""
        assert self._seed is not None
        self._begins = torch.arange(self.num_envs, device=self.device) * self._stretch
        if self.split == "train":
            self._begins += integers(seed_for(self._seed, "env"), 0, 1, len(self._codes), self.device)

    def _signal_values(self) -> Values:
        """Return observations and info of the present characters."""
        place = (self._begins + self._read) % len(self._codes)
        values: dict[str, Tensor] = {}
        if "char" in self.requested:
            values["char"] = self._one_hot[self._codes[place]]
        if "next" in self.requested:
            values["next"] = self._codes[(place + 1) % len(self._codes)]
        return self._divide(values)


CharTextLane = single_lane(CharText)
