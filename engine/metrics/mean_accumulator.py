"""Mean loss and metric of each agent over several steps, so that logged figures are not those of single batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from antiphon.engine.core.system import System
from antiphon.engine.step.update import AgentReport

__all__ = ["MeanAccumulator"]

Sums = tuple[Tensor, Tensor, int | Tensor]
"""Of loss, metric, and of what both are over."""


class MeanAccumulator:
    """Sums of loss and metric per agent, kept on the device of the losses.

    Args:
        system: The system of the agents.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._sums: dict[tuple[str, ...], Sums] = {}
        """By agents: one, or the members of a cohort ([N] each)."""
        self._row: dict[tuple[str, ...], Sums] = {}
        """Sums of the last complete row."""

    def add(self, report: AgentReport) -> None:
        """Add the losses of one step."""
        for names, losses in report.losses():
            known = self._sums.get(names)
            if known is None:
                known = self._stack(names)
            if known is None:
                self._sums[names] = (losses.loss, losses.score, losses.count)
            else:
                loss, score, count = known
                self._sums[names] = (loss + losses.loss, score + losses.score, count + losses.count)

    def _stack(self, names: tuple[str, ...]) -> Sums | None:
        """Stack the sums of single agents, as they are in a checkpoint, to those of their stack."""
        if len(names) == 1:
            return None
        each = [self._sums.pop((name,), None) for name in names]
        some = next((sums for sums in each if sums is not None), None)
        if some is None:
            return None
        zero = torch.zeros_like(some[0])
        full = [(zero, zero, 0) if sums is None else sums for sums in each]
        counts = [torch.as_tensor(count, device=zero.device).reshape(1) for _, _, count in full]
        return (
            torch.cat([loss for loss, _, _ in full]),
            torch.cat([score for _, score, _ in full]),
            torch.cat(counts),
        )

    def _by_agent(self, sums: dict[tuple[str, ...], Sums]) -> dict[str, Sums]:
        found: dict[str, Sums] = {}
        for names, (loss, score, count) in sums.items():
            for n, name in enumerate(names):
                counted = count[n : n + 1] if isinstance(count, Tensor) else count
                if len(names) == 1 or int(counted):
                    found[name] = loss[n : n + 1], score[n : n + 1], counted
        return {name: found[name] for name in self._system.agents if name in found}

    def means(self) -> dict[str, dict[str, float]]:
        """Return `loss` and the objective's metric by agent, means over all ticks and environments with a target."""
        return self._means(self._sums)

    def _means(self, sums: dict[tuple[str, ...], Sums]) -> dict[str, dict[str, float]]:
        found = {}
        for name, (loss, score, count) in self._by_agent(sums).items():
            goal = self._system.agents[name].goal
            assert goal is not None
            samples = int(count)
            if samples:
                mean = loss.item() * self._system.batch / samples
                found[name] = {"loss": mean, goal.objective.metric: score.item() / samples}
        return found

    def pop(self) -> dict[str, dict[str, float]]:
        """Return the means and reset the sums."""
        found, self._sums = self.means(), {}
        return found

    def end_row(self) -> None:
        """Complete a row and reset the sums."""
        self._row, self._sums = self._sums, {}

    def row(self) -> dict[str, dict[str, float]]:
        """Return the means of the last complete row."""
        return self._means(self._row)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return {
            name: [loss[0], score[0], int(count)]
            for name, (loss, score, count) in self._by_agent(self._sums).items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums; older checkpoints have single numbers, the count as a tensor too where a signal marks targets."""
        self._sums = {
            (name,): (loss.reshape(1), score.reshape(1), int(count))
            for name, (loss, score, count) in state.items()
        }
