"""The update an agent takes beside backpropagation's: one cosine per agent, on a frozen system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from antiphon.comms.backward_requests import as_leaf
from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.core.ties import sum_tied
from antiphon.engine.probes.truth import DifferentiableRollout, look_ahead
from antiphon.engine.step.backends import StackedBackend
from antiphon.errors import ScenarioError

__all__ = ["UpdateAlignment", "update_alignment"]

_WINDOWS = 64
"""Windows after which an agent that has not been sampled is left out."""


@dataclass(frozen=True)
class UpdateAlignment:
    """How like the gradient that an agent follows is to the true one.

    Attributes:
        cosine: Between the two, over all of its parameters; 0 where one of them is nothing.
        norm_ratio: |followed| / |true|; NaN where the true one is nothing.
        first: First step of the window they are of.
        last: Its last step.
    """

    cosine: float
    norm_ratio: float
    first: int
    last: int


def update_alignment(simulation: BaseSimulation, *, ahead: int | None = None) -> dict[str, UpdateAlignment]:
    """Compare what each agent follows in its next whole window with the true gradient of its parameters.

    Both are found in forks in which no parameter moves: the one as the agent would learn (objective, synthetic or
    returned gradients, `p_update`), the other by backpropagation through everything, from the agent's ticks in that
    window to all losses they reach. Optimisers have no say.

    Args:
        simulation: What to compare; no bit of it changes.
        ahead: Steps after a window whose losses count; None: as many as its messages can reach.

    Returns:
        By agent (the first of tied ones), without those that learn nothing or were not sampled in 64 windows.

    Raises:
        ScenarioError: `ahead` is negative.
    """
    if ahead is not None and ahead < 0:
        raise ScenarioError(f"update: ahead is {ahead}; it must be at least 0")
    with simulation.fork(stacked=False) as twin:
        followed = _followed(twin)
    with simulation.fork(stacked=False) as twin:
        true = _true(twin, followed, ahead)
    return {name: _compared(found, true[name]) for name, found in followed.items()}


class _Followed(NamedTuple):
    """What an agent follows after one window: the gradient of all its parameters, one after the other."""

    gradient: Tensor
    first: int
    last: int


def _followed(twin: BaseSimulation) -> dict[str, _Followed]:
    """The gradient of every agent's first window that has not begun, by agent; the fork is used up."""
    system = twin.system
    assert isinstance(twin.backend, StackedBackend)
    twin.backend.freeze()
    begun = {id(group): group.tape.window if group.tape.ticks else -1 for group in system.groups}
    wanted = {name for name, agent in system.owners().items() if agent.learner.trainable}
    longest = max((group.staleness + 1) * group.windows.steps() for group in system.groups)
    delays = sum(channel.ledger.link.delay for channel in system.channels.values())
    found: dict[str, _Followed] = {}
    for _ in range(_WINDOWS * longest + delays):
        if found.keys() >= wanted:
            break
        twin.advance()
        for update in twin.learned.updates:
            if update.tape.window > begun[id(update.group)]:
                for name in update.gradients.keys() & wanted - found.keys():
                    gradient = _flat(update.gradients[name], system.agents[name].learner.trainable)
                    ticks = update.tape.ticks
                    steps = [tick.step for tick in ticks if system.owner_of[tick.parts[0].agent] == name]
                    found[name] = _Followed(gradient, steps[0], steps[-1])
    return {name: found[name] for name in system.owners() if name in found}


def _true(twin: BaseSimulation, followed: dict[str, _Followed], ahead: int | None) -> dict[str, Tensor]:
    """The true gradient of each agent's parameters as they are used in its window; the fork is used up."""
    system = twin.system
    last = twin.now
    for name, window in followed.items():
        members = [agent for member, agent in system.agents.items() if system.owner_of[member] == name]
        sent = [channel.name for agent in members for channel in agent.outgoing]
        stamps = range(window.first, window.last + 1)
        reach = max(s + look_ahead(system, sent, s) for s in stamps) if ahead is None else window.last + ahead
        last = max(last, window.last, reach)
    rollout = DifferentiableRollout(system, twin.now, last - twin.now)
    learners = {name: rollout.system.agents[name].learner for name in followed}
    constants = {name: learner.parameters for name, learner in learners.items()}
    leaves = {name: {k: as_leaf(p) for k, p in constants[name].items()} for name in followed}
    # Differentiated by the parameters as they are used in the window, and nowhere else.
    for step in range(twin.now, last + 1):
        for name, window in followed.items():
            used = window.first <= step <= window.last
            learners[name].parameters = leaves[name] if used else constants[name]
        rollout.run(twin.world, 1)
    losses = rollout.losses()
    every = [p for own in leaves.values() for p in own.values()]
    found = torch.autograd.grad(losses, every, allow_unused=True) if losses and every else [None] * len(every)
    gradients = iter(found)
    by_agent = {name: [next(gradients) for _ in own] for name, own in leaves.items()}
    sum_tied(system.joined_ties(), system.agents, [by_agent])
    shares = {name: group.owners[name] for group in system.groups for name in group.owners}
    return {name: _flat(by_agent[name], list(own.values())) / shares[name] for name, own in leaves.items()}


def _flat(gradients: Sequence[Tensor | None], parameters: list[Tensor]) -> Tensor:
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


@torch.no_grad()
def _compared(followed: _Followed, true: Tensor) -> UpdateAlignment:
    own, other = followed.gradient.norm().item(), true.norm().item()
    product = own * other
    cosine = torch.dot(followed.gradient, true).item() / product if product > 0 else 0.0
    return UpdateAlignment(cosine, own / other if other > 0 else float("nan"), followed.first, followed.last)
