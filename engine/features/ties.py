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
from antiphon.engine.heart.updates import Update

Tie = list[tuple[str, int]]
"""Agents, and places among their parameters, of what is one weight."""

Gradients = list[Tensor | None]


def ties_of(system: System) -> list[list[Tie]]:
    """Return what is one weight, by its places; ties with a common agent together, those of other parts left out."""
    joined: list[list[Tie]] = []
    for places in system.tied_parameters:
        if places[0][0] not in system.agents:  # a tie is never cut: all of its agents are in another part
            continue
        each = [(name, list(system.agents[name].learner.parameters), key) for name, key in places]
        tie = [(name, keys.index(key)) for name, keys, key in each]
        names = {name for name, _ in tie}
        touching = [some for some in joined if any(name in names for one in some for name, _ in one)]
        joined = [some for some in joined if some not in touching]
        joined.append([*chain.from_iterable(touching), tie])
    return joined


def sum_tied(ties: Sequence[Sequence[Tie]], updates: Sequence[Mapping[str, Gradients]]) -> None:
    """Put the sum of the gradients that reach any of a tie's parameters in place of each.

    A tied parameter that a gradient reaches anywhere has one in all of its agents; where none reaches it, it stays in all.

    Args:
        ties: Of the system.
        updates: Of one step: by agent, its gradients in the order of its parameters; changed. An agent's first update is
            summed with the first of the others, and so on.
    """
    for groups in ties:
        names = dict.fromkeys(name for name, _ in chain.from_iterable(groups))
        each = {name: [own[name] for own in updates if own.get(name)] for name in names}
        for turn in range(max(map(len, each.values()))):
            found = {name: some[turn] for name, some in each.items() if turn < len(some)}
            if any(g is not None for some in found.values() for g in some):
                for tie in groups:
                    _sum(tie, found)


def _sum(tie: Tie, gradients: Mapping[str, Gradients]) -> None:
    present = [(name, place) for name, place in tie if name in gradients]
    reached = [g for name, place in present if (g := gradients[name][place]) is not None]
    if not reached:
        return
    total = reduce(torch.add, reached)
    for name, place in present:  # each has its own tensor: an optimiser may change what it is given
        gradients[name][place] = total.clone()


class TiedGradients(Feature):
    """Sums the gradients of a system's tied parameters, so that these stay equal.

    Args:
        engine: Of the system; tied agents are not stacked.

    Attributes:
        agents: Those with tied parameters.
    """

    def __init__(self, engine: Engine) -> None:
        self._ties = ties_of(engine.system)
        self.agents = {name for groups in self._ties for tie in groups for name, _ in tie}

    def before_move(self, updates: Sequence[Update]) -> None:
        """Sum over the updates of one step, all of which have been differentiated."""
        tied = [
            (update, name) for update in updates for name in update.gradients_by_learner.keys() & self.agents
        ]
        for update, name in tied:
            if not update.moving_members_by_agent.get(name, ALL).anywhere:
                update.gradients_by_learner[name] = [None] * len(update.gradients_by_learner[name])
        each = [
            {
                name: gradients
                for own, name in tied
                if own is update and isinstance(gradients := own.gradients_by_learner[name], list)
            }
            for update in updates
        ]
        sum_tied(self._ties, each)
        for update, name in tied:
            if any(g is not None for g in update.gradients_by_learner[name]):
                update.let_all_move(name)
