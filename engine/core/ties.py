"""Tied parameters: weights of several agents that are one weight, and the sum of gradients that they follow (semantics 27c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import chain

import torch
from torch import Tensor

from antiphon.engine.core.agent import Agent

__all__ = ["JoinedTies", "joined_ties", "sum_tied"]

Tie = list[tuple[str, int]]
"""Agents, and places among their parameters, of what is one weight."""
JoinedTies = list[list[Tie]]
"""Ties, those with a common agent together."""
Gradients = list[Tensor | None]


def joined_ties(ties: Sequence[Sequence[tuple[str, str]]], agents: Mapping[str, Agent]) -> JoinedTies:
    """Return ties by the places of parameters; `ties`: as agents and names of parameters, those of other parts left out."""
    joined: JoinedTies = []
    for places in ties:
        if places[0][0] not in agents:  # a tie is never cut: all of its agents are in another part
            continue
        tie = [(name, list(agents[name].learner.parameters).index(parameter)) for name, parameter in places]
        names = {name for name, _ in tie}
        touching = [some for some in joined if any(name in names for one in some for name, _ in one)]
        joined = [some for some in joined if some not in touching]
        joined.append([*chain.from_iterable(touching), tie])
    return joined


def sum_tied(
    ties: JoinedTies, agents: Mapping[str, Agent], updates: Sequence[Mapping[str, Gradients]]
) -> None:
    """Put the sum of the gradients that reach any of a tie's parameters in place of each.

    Where any gradient reaches one of the agents that are tied together, the tied parameters of all have a gradient, zeros
    if need be: all take an optimiser step, or none.

    Args:
        ties: Of the system.
        agents: By name.
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
                    _sum(tie, agents, found)


def _sum(tie: Tie, agents: Mapping[str, Agent], gradients: Mapping[str, Gradients]) -> None:
    present = [(name, place) for name, place in tie if name in gradients]
    reached = [g for name, place in present if (g := gradients[name][place]) is not None]
    total = reduce(torch.add, reached) if reached else None
    for name, place in present:
        # Each has its own tensor: an optimiser may change what it is given.
        zeros = torch.zeros_like(list(agents[name].learner.parameters.values())[place])
        gradients[name][place] = zeros if total is None else total.clone()
