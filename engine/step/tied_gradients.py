"""Gradients of tied parameters: those that are one weight follow the sum of what reached any of them (semantics 27c)."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.engine.core.system import System
from antiphon.engine.core.ties import sum_tied
from antiphon.engine.core.updates import Update
from antiphon.engine.step.backward import reached_alone

__all__ = ["TiedGradients"]


class TiedGradients:
    """Sums the gradients of a system's tied parameters, so that these stay equal.

    Args:
        system: Its ties, of agents that are not stacked.

    Attributes:
        agents: Those with tied parameters.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self._ties = system.joined_ties()
        self.agents = {name for groups in self._ties for tie in groups for name, _ in tie}

    def sum_updates(self, updates: Sequence[Update]) -> None:
        """Sum over the updates of one step, all of which have been differentiated."""
        tied = [
            (update, name)
            for update in updates
            for name in update.gradients.keys() & self.agents
            if self.system.agents[name].agent_disabled is not True
        ]
        for update, name in tied:
            if not self._reached(update, name):
                update.gradients[name] = [None] * len(update.gradients[name])
        each = [
            {
                name: gradients
                for own, name in tied
                if own is update and isinstance(gradients := own.gradients[name], list)
            }
            for update in updates
        ]
        sum_tied(self._ties, self.system.agents, each)
        for update, name in tied:
            if any(g is not None for g in update.gradients[name]):
                update.reached_by_tie.add(name)

    def _reached(self, update: Update, name: str) -> bool:
        """Whether a gradient reaches an agent; beside stacks it may be given zeros in place of none."""
        stacks = any(self.system.agents[member].stacked for member in update.group.members)
        return not stacks or reached_alone(self.system, update, name)
