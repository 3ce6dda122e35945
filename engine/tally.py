"""A tally: what objectives said since somebody last asked, so that figures are means and not single batches."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from antiphon.engine.reference import Learned
from antiphon.engine.system import System

__all__ = ["Tally"]


class Tally:
    """Sums of loss and metric per agent, kept where the numbers live.

    Args:
        system: Whose agents are counted.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._sums: dict[str, tuple[Tensor, Tensor, int | Tensor]] = {}

    def add(self, learned: Learned) -> None:
        """Count what was learned at one step."""
        for update in learned.updates:
            for name, losses in update.losses.items():
                known = self._sums.get(name)
                if known is None:
                    self._sums[name] = (losses.loss, losses.score, losses.count)
                else:
                    loss, score, count = known
                    self._sums[name] = (loss + losses.loss, score + losses.score, count + losses.count)

    def means(self) -> dict[str, dict[str, float]]:
        """Return `loss` and the objective's metric by agent, means over all ticks and environments with a target."""
        found = {}
        for name, (loss, score, count) in self._sums.items():
            goal = self._system.agents[name].goal
            assert goal is not None
            samples = int(count)
            if samples:
                mean = loss.item() * self._system.batch / samples
                found[name] = {"loss": mean, goal.objective.metric: score.item() / samples}
        return found

    def take(self) -> dict[str, dict[str, float]]:
        """Return the means and start again."""
        found, self._sums = self.means(), {}
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return {name: list(sums) for name, sums in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the sums."""
        self._sums = {name: (loss, score, count) for name, (loss, score, count) in state.items()}
