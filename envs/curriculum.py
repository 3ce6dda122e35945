"""Curriculum of the copy tasks: the difficulty grows once a task is solved, and is part of the state."""

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
"""Steps added to the reproduced characters in the papers' task length, T_task = N * R + 3."""


class Curriculum:
    """Difficulty of a task, raised by the mean error since the last change.

    Jaderberg et al. 2017, "Decoupled neural interfaces using synthetic gradients", section 3.1: a task is solved
    when the error averages below 0.15 bits; then the number of characters, or of repeats, grows by one.

    Args:
        options: Of the task.

    Attributes:
        difficulty: Of the present episode.
        error: Mean error in bits, decaying by 0.95 per episode since the last change; None: unknown.
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

    def update(self, error: float) -> None:
        """Update the mean with an episode's error, and raise the difficulty if the task is solved.

        Args:
            error: Bits per component of the target; ignored if not finite.
        """
        if not math.isfinite(error):
            return
        self.error = error if self.error is None else _DECAY * self.error + (1 - _DECAY) * error
        self._episodes += 1
        if self._episodes < _LEAST_EPISODES or self.error >= self._options.threshold:
            return
        self.solved = max(self.solved, self.difficulty.characters + _READ_AND_STOPPED)
        harder = self._options.harder(self.difficulty)
        if harder is not None:
            self.difficulty, self.error, self._episodes = harder, None, 0

    def figures(self) -> dict[str, float]:
        """Return `difficulty`, the characters to reproduce; `solved`; and, once known, the mean error `bits`."""
        found = {"difficulty": float(self.difficulty.characters), "solved": float(self.solved)}
        return found if self.error is None else {**found, "bits": self.error}

    def state_dict(self) -> dict[str, Any]:
        """Return the state, plain numbers."""
        return {
            "length": self.difficulty.length,
            "repeats": self.difficulty.repeats,
            "error": self.error,
            "solved": self.solved,
            "episodes": self._episodes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`."""
        self.difficulty = Difficulty(int(state["length"]), int(state["repeats"]))
        self.error = state["error"]
        self.solved, self._episodes = int(state["solved"]), int(state["episodes"])
