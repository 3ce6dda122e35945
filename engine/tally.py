"""A tally: what objectives said since somebody last asked, so that figures are means and not single batches."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from antiphon.engine.learned import Learned
from antiphon.engine.system import System

__all__ = ["Tally"]

Sums = tuple[Tensor, Tensor, int | Tensor]
"""Of loss, metric, and of what both are over."""


class Tally:
    """Sums of loss and metric per agent, kept where the numbers live.

    Args:
        system: Whose agents are counted.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._sums: dict[tuple[str, ...], Sums] = {}
        """By agents: one, or those of a cohort, [N] each."""

    def add(self, learned: Learned) -> None:
        """Count what was learned at one step."""
        for names, losses in learned.losses():
            known = self._sums.get(names)
            if known is None:
                self._sums[names] = (losses.loss, losses.score, losses.count)
            else:
                loss, score, count = known
                self._sums[names] = (loss + losses.loss, score + losses.score, count + losses.count)

    def _by_agent(self) -> dict[str, Sums]:
        found: dict[str, Sums] = {}
        for names, (loss, score, count) in self._sums.items():
            for n, name in enumerate(names):
                own = (loss[n], score[n]) if loss.dim() else (loss, score)
                counted = count[n] if isinstance(count, Tensor) and count.dim() else count
                if name in found:  # a checkpoint of single agents went on as a cohort
                    before = found[name]
                    found[name] = own[0] + before[0], own[1] + before[1], counted + before[2]
                else:
                    found[name] = *own, counted
        return {name: found[name] for name in self._system.agents if name in found}

    def means(self) -> dict[str, dict[str, float]]:
        """Return `loss` and the objective's metric by agent, means over all ticks and environments with a target."""
        found = {}
        for name, (loss, score, count) in self._by_agent().items():
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
        return {name: list(sums) for name, sums in self._by_agent().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the sums."""
        self._sums = {(name,): (loss, score, count) for name, (loss, score, count) in state.items()}
