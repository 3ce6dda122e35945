"""Gradients of tied parameters: those that are one weight follow the sum of what reached any of them (semantics 27c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import chain

import torch

from antiphon.comms.credit import Gradients
from antiphon.engine.core.system import System, Tie
from antiphon.engine.core.updates import Update
from antiphon.engine.step.backward import reached_alone

__all__ = ["TiedGradients"]


class TiedGradients:
    """Sums the gradients of a system's tied parameters, so that these stay equal.

    Args:
        system: Its ties, of agents that are not stacked.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self._joined = system.joined_ties()

    def sum_updates(self, updates: Sequence[Update]) -> None:
        """Sum over the updates of one step; where any of the tied agents takes an optimiser step, all of them do."""
        for groups in self._joined:
            names = dict.fromkeys(name for name, _ in chain.from_iterable(groups))
            each = {name: [u for u in updates if self._learns(u, name)] for name in names}
            for turn in range(max(map(len, each.values()))):
                own = {name: some[turn] for name, some in each.items() if turn < len(some)}
                for name, update in own.items():
                    if not self._reached(update, name):
                        update.gradients[name] = [None] * len(update.gradients[name])
                gradients = {name: update.gradients[name] for name, update in own.items()}
                if any(g is not None for some in gradients.values() for g in some):
                    self._sum(groups, gradients)
                    for name, update in own.items():
                        update.reached_by_tie.add(name)

    def sum_gradients(self, gradients: Mapping[str, Gradients]) -> None:
        """Sum gradients that are of one window of all tied agents; `gradients`: by agent, changed."""
        for groups in self._joined:
            self._sum(groups, gradients)

    def _sum(self, groups: Sequence[Tie], gradients: Mapping[str, Gradients]) -> None:
        """Put the sum in place of each gradient, zeros where none is; `gradients`: by agent, changed."""
        for tie in groups:
            present = [(name, index) for name, index in tie if name in gradients]
            found = [g for name, index in present if (g := gradients[name][index]) is not None]
            total = reduce(torch.add, found) if found else None
            for name, index in present:
                # Each has its own: an optimiser may change what it is given.
                zeros = torch.zeros_like(self.system.agents[name].learner.trainable[index])
                gradients[name][index] = zeros if total is None else total.clone()

    def _learns(self, update: Update, name: str) -> bool:
        agent = self.system.agents[name]
        return bool(update.gradients.get(name)) and agent.agent_disabled is not True

    def _reached(self, update: Update, name: str) -> bool:
        """Whether a gradient reaches an agent; beside stacks it may be given zeros in place of none."""
        stacks = any(self.system.agents[member].stacked for member in update.group.members)
        return not stacks or reached_alone(self.system, update, name)
