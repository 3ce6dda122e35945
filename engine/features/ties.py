"""Tied parameters: weights of several agents that are one weight, and follow the sum of what reaches any of them (semantics 27c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import chain

import torch
from torch import Tensor

from antiphon.base.mask import ALL
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import StepUpdates, Update

Tie = list[tuple[str, int]]
"""Agents, and indices among their parameters, of what is one weight."""

Gradients = list[Tensor | None]


def ties_of(system: System) -> list[list[Tie]]:
    """Return what is one weight; ties with a common agent are one group, those of other parts are left out."""
    groups: list[list[Tie]] = []
    for tied in system.tied_parameters:
        if tied[0][0] not in system.agents:  # a tie is never cut: all of its agents are in another part
            continue
        tie = [(name, list(system.agents[name].learner.parameters).index(key)) for name, key in tied]
        names = {name for name, _ in tie}
        touching = [group for group in groups if not names.isdisjoint(name for name, _ in chain(*group))]
        groups = [group for group in groups if group not in touching]
        groups.append([*chain.from_iterable(touching), tie])
    return groups


def sum_tied(ties: Sequence[Sequence[Tie]], updates: Sequence[Mapping[str, Gradients]]) -> None:
    """Put the sum of the gradients that reach any of a tie's parameters in place of each.

    A tied parameter that a gradient reaches anywhere has one in all of its agents; where none reaches it, it stays in all.

    Args:
        updates: Of one step: by agent, its gradients in the order of its parameters; changed. An agent's first update is
            summed with the first of the others, and so on.
    """
    for group in ties:
        names = dict.fromkeys(name for name, _ in chain.from_iterable(group))
        updates_of = {name: [update[name] for update in updates if update.get(name)] for name in names}
        for turn in range(max(map(len, updates_of.values()))):
            gradients_of = {
                name: of_agent[turn] for name, of_agent in updates_of.items() if turn < len(of_agent)
            }
            if any(g is not None for gradients in gradients_of.values() for g in gradients):
                for tie in group:
                    _sum(tie, gradients_of)


def _sum(tie: Tie, gradients: Mapping[str, Gradients]) -> None:
    present = [(name, index) for name, index in tie if name in gradients]
    summands = [g for name, index in present if (g := gradients[name][index]) is not None]
    if not summands:
        return
    total = reduce(torch.add, summands)
    for name, index in present:  # each has its own tensor: an optimiser may change what it is given
        gradients[name][index] = total.clone()


class TiedGradients(Feature):
    """Sums the gradients of a system's tied parameters, so that these stay equal.

    Args:
        engine: Of the system; tied agents are not stacked.
    """

    def __init__(self, engine: Engine) -> None:
        self._ties = ties_of(engine.system)
        self.agents = {name for group in self._ties for tie in group for name, _ in tie}

    def before_move(self, updates: StepUpdates) -> None:
        """Sum over the updates of one step, all of which have been differentiated."""
        window_updates = [*updates.of_windows()]
        tied = [
            (update, name)
            for update in window_updates
            for name in update.gradients_by_learner.keys() & self.agents
        ]
        for update, name in tied:
            if not update.moving_members_by_learner.get(name, ALL).anywhere:
                update.gradients_by_learner[name] = [None] * len(update.gradients_by_learner[name])
        gradients_by_update = [
            {
                name: gradients
                for name in update.gradients_by_learner.keys() & self.agents
                if isinstance(gradients := update.gradients_by_learner[name], list)
            }
            for update in window_updates
        ]
        sum_tied(self._ties, gradients_by_update)
        for update, name in tied:
            if any(g is not None for g in update.gradients_by_learner[name]):
                update.let_all_move(name)
        self._rest_together(tied)

    def _rest_together(self, tied: Sequence[tuple[Update, str]]) -> None:
        """Keep agents at rest whose parameters are tied to those of one at rest: one weight moves in all of them, or in none."""
        resting = {name for update, name in tied if name in update.resting_members_by_learner}
        if not resting:
            return
        for group in self._ties:
            names = {name for tie in group for name, _ in tie}
            if not names.isdisjoint(resting):
                for update, name in tied:
                    if name in names:
                        update.rest(name)
