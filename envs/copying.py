"""Copy tasks, `antiphon/Copy-v0`, and their curriculum: the difficulty grows when a task is solved, and is part of the state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from gymnasium.spaces import Box
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from antiphon.base.errors import ScenarioError, require
from antiphon.envs.base import SeededEnv, Values
from antiphon.envs.options import EnvOptions
from antiphon.envs.signal import Description, Signal
from antiphon.nets.random import seed_for, uniform

_DECAY = 0.95
"""Decay of the mean error, per episode."""
_LEAST_EPISODES = 20
"""Episodes at a difficulty before it can count as solved: a mean of fewer is chance."""
_READ_AND_STOPPED = 3
"""Steps added to the number of reproduced characters in the papers' task length, T_task = N * R + 3."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    length: int
    """Characters to read."""
    repeats: int
    """Number of times to reproduce them."""

    @property
    def characters(self) -> int:
        """Characters to reproduce, without the stop character."""
        return self.length * self.repeats


class Copy(SeededEnv):
    """Read characters of random bits and, after a stop character, reproduce them and the stop character.

    Graves et al. 2014, "Neural Turing machines", with the curriculum of Jaderberg et al. 2017, "Decoupled neural
    interfaces using synthetic gradients", section 3.1.

    Description:
        N steps each show a character, the next one the stop character. In the following N + 1 steps the characters and
        the stop character are the targets, and a blank step ends the episode: 2 N + 3 steps. N grows when the task is
        solved: when the mean error of the actions is below `threshold`, over at least 20 episodes.
        With `repeats` the step after the stop character shows the number R, as R / 10 in the last component of `symbol`, and the
        characters are targets R times: N + N R + 4 steps. A solved task grows by a character or a repeat in turn, while N R is at
        most `max_length`.
    Action space:
        Logits of the target's components `[bits + 1]`; they have no effect within an episode. An episode with a step
        without an action has no error, and does not change the curriculum.
    Observation space:
        `symbol` [bits + 2]: a character's bits, then the stop's flag; the last component is for `repeats`. `info` has
        `target` [bits + 1], floats 0 or 1, and its mask `_target`, bool: whether the step has one; `time_left`
        [1], the steps that follow in the episode, divided by 10; and `upcoming` [max_length * (bits + 1)], the
        targets of the next `max_length` steps, the next step's first: their bits as -1 and 1 (of a stop: -1; 0
        without a target), then for each of these steps 1.0 if it has a target.
    Rewards:
        Minus the error of the action, in bits per component; 0.0 in steps without a target.
    Episode end:
        After the blank step, in all environments at once. The curriculum restarts with every seed.

    Attributes:
        bits: Mean error in bits since the last change, an exponential average with 0.95 per episode; None: unknown.
        solved: Length of the longest task solved, `N * R + 3`; 0: none.
    """

    class Options(EnvOptions):
        bits: int = Field(8, ge=1, le=64)
        """Number of random bits per character."""
        max_length: int = Field(24, ge=1, le=1024)
        """Maximum number of characters to reproduce (N R); `upcoming` has the targets of as many steps."""
        length: int = Field(1, ge=1)
        """Initial N."""
        threshold: float = Field(0.15, ge=0, allow_inf_nan=False)
        """Error in bits per component below which a task is solved; 0: no curriculum."""

        repeats: int = Field(0, ge=0)
        """Initial R, which is shown after the stop character; 0: the characters are reproduced once, and nothing shows it."""

        @model_validator(mode="after")
        def _start_fits(self) -> Self:
            most, times = self.max_length, self.start.repeats
            if self.length > most:
                raise ScenarioError(f"length: {self.length}; must be a whole number from 1 to {most}")
            if self.start.characters > most:
                product = f"{times} times length {self.length} exceeds max_length {most}"
                raise ScenarioError(f"repeats: {product}; lower it, or raise max_length")
            return self

        @property
        def start(self) -> Difficulty:
            return Difficulty(self.length, self.repeats or 1)

        def harder(self, than: Difficulty) -> Difficulty | None:
            """Return the difficulty after a solved one, with `repeats` longer and more of them in turn; None if it was the last."""
            longer = not self.repeats or than.length - self.length <= than.repeats - self.repeats
            difficulty = Difficulty(than.length + longer, than.repeats + (not longer))
            return difficulty if difficulty.characters <= self.max_length else None

        def steps(self, difficulty: Difficulty) -> int:
            read = difficulty.length + 1 + bool(self.repeats)  # 1: the stop character
            return read + difficulty.characters + 2  # the target of the stop character, and the blank

    @staticmethod
    def describe(options: Options) -> Description:
        grows = options.threshold > 0
        hardest = options.start
        while grows and (harder := options.harder(hardest)) is not None:
            hardest = harder
        longest = options.steps(hardest)
        future = options.max_length * (options.bits + 1)
        most = max(1.0, options.max_length / 10) if options.repeats else 1.0
        signals = {
            "symbol": Signal(shape=(options.bits + 2,), low=0.0, high=most),
            "target": Signal(shape=(options.bits + 1,), training_only=True, low=0.0, high=1.0),
            "time_left": Signal(shape=(1,), training_only=True, low=0.0),
            "upcoming": Signal(shape=(future,), training_only=True, low=-1.0, high=1.0),
        }
        return Description(
            signals=signals,
            episode_steps=None if grows else longest,
            longest_episode=longest if grows else None,
        )

    _place = ("number", "tick")

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        self._options = options
        logits = Box(-np.inf, np.inf, (options.bits + 1,), np.float32)
        super().__init__(num_envs, self.describe(options), logits, **settings)
        self._restart()
        self._error = torch.zeros((), dtype=torch.float64, device=self.device)  # summed over the scored steps
        self._judged = 0

    @property
    def episode_length(self) -> int:
        return self._options.steps(self.difficulty)

    def metrics(self) -> Mapping[str, float]:
        """Return `difficulty` (the characters to reproduce), `solved` and, once known, the mean error `bits`."""
        metrics = {"difficulty": float(self.difficulty.characters), "solved": float(self.solved)}
        return metrics if self.bits is None else {**metrics, "bits": self.bits}

    def _restart(self) -> None:
        self.solved = 0
        self._set(self._options.start)

    def _set(self, difficulty: Difficulty) -> None:
        self.difficulty = difficulty
        self.bits: float | None = None
        self._episodes = 0  # with a known error

    def _begin_seed(self, seed: int | None) -> bool:
        if begins := super()._begin_seed(seed):
            self._restart()
        return begins

    def _close(self) -> None:
        if self._judged == len(self._due):
            self.grow(self._error.item() / self._judged)

    def grow(self, error: float) -> None:
        """Add an episode's error, in bits per component (ignored if not finite); a solved task becomes harder."""
        if not math.isfinite(error):
            return
        self.bits = error if self.bits is None else _DECAY * self.bits + (1 - _DECAY) * error
        self._episodes += 1
        if self._episodes < _LEAST_EPISODES or self.bits >= self._options.threshold:
            return
        self.solved = max(self.solved, self.difficulty.characters + _READ_AND_STOPPED)
        harder = self._options.harder(self.difficulty)
        if harder is not None:
            self._set(harder)

    def state_dict(self) -> dict[str, Any]:
        progress = {"solved": self.solved, "error": self.bits, "episodes": self._episodes}
        judged = {"error": self._error.clone(), "judged": self._judged}
        return super().state_dict() | judged | {"curriculum": asdict(self.difficulty) | progress}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        held = state["curriculum"]
        self.difficulty = Difficulty(held["length"], held["repeats"])
        self.solved, self.bits, self._episodes = held["solved"], held["error"], held["episodes"]
        super().load_state_dict(state)
        self._judged = int(state["judged"])
        self._error = state["error"].to(self.device, torch.float64, copy=True)

    def _open(self) -> None:
        """Sample the present episode, a pure function of seed, number, environment and difficulty."""
        assert self._seed is not None
        bits, difficulty, num_envs = self._options.bits, self.difficulty, self.num_envs
        length, steps = difficulty.length, self.episode_length
        self._judged, self._error = 0, torch.zeros_like(self._error)
        # Environment-major: an environment's episode does not depend on their number.
        chance = uniform(seed_for(self._seed, "env"), self._number, num_envs * length * bits, self.device)
        pattern = (chance < 0.5).view(num_envs, length, bits).transpose(0, 1).to(self.dtype)
        self._symbols = pattern.new_zeros(steps, num_envs, bits + 2)
        self._symbols[:length, :, :bits] = pattern
        self._symbols[length, :, bits] = 1
        if self._options.repeats:
            self._symbols[length + 1, :, bits + 1] = difficulty.repeats / 10
        stop = steps - 2
        first = stop - difficulty.characters
        self._due = range(first, stop + 1)
        self._targets = pattern.new_zeros(steps, num_envs, bits + 1)
        self._targets[first:stop, :, :bits] = pattern.repeat(difficulty.repeats, 1, 1)
        self._targets[stop, :, bits] = 1
        self._ahead = pattern.new_zeros(steps + self._options.max_length, num_envs, bits + 1)
        self._ahead[first : stop + 1, :, :bits] = 2 * self._targets[first : stop + 1, :, :bits] - 1
        self._ahead[first : stop + 1, :, bits] = 1

    def _values(self) -> Values:
        now, last = self._tick, len(self._targets) - 1
        values = {"symbol": self._symbols[now], "target": self._targets[now]}
        if "time_left" in self.requested:
            values["time_left"] = self._symbols.new_full((self.num_envs, 1), (last - now) / 10)
        if "upcoming" in self.requested:  # all bits of the following targets, then which of them there are
            ahead = self._ahead[now + 1 : now + 1 + self._options.max_length].transpose(0, 1)
            values["upcoming"] = torch.cat([ahead[..., :-1].flatten(1), ahead[..., -1]], 1)
        observations, info = self._divide(values)
        if "target" in info:
            info["_target"] = self.everywhere(now in self._due)
        return observations, info

    def _reward(self, actions: Any) -> Tensor | None:
        if actions is None or self._tick not in self._due:
            return None
        target = self._targets[self._tick]
        with torch.no_grad():
            answer = torch.as_tensor(actions, device=self.device).to(self.dtype)
            wrong = f"actions are {[*answer.shape]}; pass logits of the target's shape {[*target.shape]}"
            require(answer.shape == target.shape, "env", wrong, ScenarioError)
            error = functional.binary_cross_entropy_with_logits(answer, target, reduction="none").mean(1)
            error = error / math.log(2)
            self._error += error.double().mean()
        self._judged += 1
        return -error
