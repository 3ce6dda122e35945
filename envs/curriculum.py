"""A curriculum: a task grows once it is solved, and how far it has come is state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from antiphon.envs.options_in_time import CopyOptions, Difficulty

__all__ = ["Curriculum"]

_DECAY = 0.95
"""Of the mean error, per episode."""
_LEAST_EPISODES = 20
"""Episodes at a difficulty before it can count as solved: a mean of fewer is chance."""
_READ_AND_STOPPED = 3
"""What the papers add to the characters asked for when they give a task's length, T_task = N * R + 3."""


class Curriculum:
    """How hard the task is, judged by the mean error since it last became harder.

    Jaderberg et al. 2017, "Decoupled neural interfaces using synthetic gradients", section 3.1: a task is solved
    when the error averages below 0.15 bits; then the number of characters, or of repeats, grows by one.

    Args:
        options: Of the task.

    Attributes:
        difficulty: Of the present episode.
        error: Mean error in bits, decaying by 0.95 per episode since the last change; None: none is known.
        solved: Length of the longest task solved, `N * R + 3`; 0: none.
    """

    def __init__(self, options: CopyOptions) -> None:
        self._options = options
        self.restart()

    def restart(self) -> None:
        """Go back to the first difficulty."""
        self.difficulty = self._options.start
        self.error: float | None = None
        self.solved = 0
        self._episodes = 0  # with a known error, since the last change

    def judge(self, error: float) -> None:
        """Take an episode's error into the mean, and let the task grow if it is solved.

        Args:
            error: Bits per component of the target; one that is not finite says nothing.
        """
        if not math.isfinite(error):
            return
        self.error = error if self.error is None else _DECAY * self.error + (1 - _DECAY) * error
        self._episodes += 1
        if self._episodes < _LEAST_EPISODES or self.error >= self._options.threshold:
            return
        self.solved = max(self.solved, self.difficulty.asked + _READ_AND_STOPPED)
        harder = self._options.harder(self.difficulty)
        if harder is not None:
            self.difficulty, self.error, self._episodes = harder, None, 0

    def figures(self) -> dict[str, float]:
        """Return `difficulty`, the characters asked for; `solved`; and, once known, the mean error `bits`."""
        found = {"difficulty": float(self.difficulty.asked), "solved": float(self.solved)}
        return found if self.error is None else {**found, "bits": self.error}

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs: numbers."""
        return {
            "length": self.difficulty.length,
            "repeats": self.difficulty.repeats,
            "error": self.error,
            "solved": self.solved,
            "episodes": self._episodes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.difficulty = Difficulty(int(state["length"]), int(state["repeats"]))
        self.error = state["error"]
        self.solved, self._episodes = int(state["solved"]), int(state["episodes"])
