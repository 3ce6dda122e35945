"""The update an agent takes beside backpropagation's: one cosine per agent, on a frozen system."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.comms.credit import as_leaf
from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.core.system import System
from antiphon.engine.core.tape import Tape
from antiphon.engine.probes.live import Live
from antiphon.engine.probes.reach import look_ahead
from antiphon.errors import ScenarioError

__all__ = ["UpdateAlignment", "update_alignment"]

_WINDOWS = 64
"""Windows after which an agent that has not been drawn is left out."""


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


@dataclass(frozen=True)
class _Followed:
    """What an agent follows after one window."""

    gradient: Tensor
    """Of all its parameters, one after the other."""
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
        By agent (the first of tied ones), without those that learn nothing or were not drawn in 64 windows.

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


def _followed(twin: BaseSimulation) -> dict[str, _Followed]:
    """The gradient of every agent's first window that has not begun, by agent; the fork is used up."""
    system = twin.system
    twin.backend.freeze()
    begun = {id(unit): unit.tape.window if unit.tape.ticks else -1 for unit in system.units}
    wanted = {name for name, agent in system.owners().items() if agent.learner.trainable}
    longest = max((unit.staleness + 1) * (unit.windows.end(1) - unit.windows.end(0)) for unit in system.units)
    delays = sum(channel.ledger.link.delay for channel in system.channels.values())
    found: dict[str, _Followed] = {}
    for _ in range(_WINDOWS * longest + delays):
        if found.keys() >= wanted:
            break
        twin.advance()
        for update in twin.learned.updates:
            if update.tape.window > begun[id(update.group)]:
                for name, gradients in update.gradients.items():
                    if name in wanted and name not in found:
                        parameters = system.agents[name].learner.trainable
                        steps = _steps(update.tape, system, name)
                        found[name] = _Followed(_flat(gradients, parameters), steps[0], steps[-1])
    return {name: found[name] for name in system.owners() if name in found}


def _steps(tape: Tape, system: System, owner: str) -> list[int]:
    return [tick.step for tick in tape.ticks if system.owner_of[tick.parts[0].agent] == owner]


def _true(twin: BaseSimulation, followed: dict[str, _Followed], ahead: int | None) -> dict[str, Tensor]:
    system = twin.system
    last = twin.now
    for name, window in followed.items():
        sent = [
            channel.name
            for member, agent in system.agents.items()
            if system.owner_of[member] == name
            for channel in agent.outputs
        ]
        stamps = range(window.first, window.last + 1)
        reach = max(s + look_ahead(system, sent, s) for s in stamps) if ahead is None else window.last + ahead
        last = max(last, window.last, reach)
    live = Live(system, twin.now, last - twin.now)
    learners = {name: live.system.agents[name].learner for name in followed}
    constants = {name: learner.parameters for name, learner in learners.items()}
    leaves = {name: {k: as_leaf(p) for k, p in constants[name].items()} for name in followed}
    # Differentiated by the parameters as they are used in the window, and nowhere else.
    for step in range(twin.now, last + 1):
        for name, window in followed.items():
            used = window.first <= step <= window.last
            learners[name].parameters = leaves[name] if used else constants[name]
        live.run(twin.world, 1)
    losses = [loss for loss in live.losses()[0] if loss.requires_grad]
    every = [p for own in leaves.values() for p in own.values()]
    gradients = iter(
        torch.autograd.grad(losses, every, allow_unused=True) if losses and every else [None] * len(every)
    )
    shares = {name: unit.owners[name] for unit in system.units for name in unit.owners}
    return {
        name: _flat([next(gradients) for _ in own], list(own.values())) / shares[name]
        for name, own in leaves.items()
    }


def _flat(gradients: list[Tensor | None], parameters: list[Tensor]) -> Tensor:
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(gradients, parameters, strict=True)
        ]
    )


@torch.no_grad()
def _compared(followed: _Followed, true: Tensor) -> UpdateAlignment:
    own, other = followed.gradient.norm().item(), true.norm().item()
    product = own * other
    cosine = torch.dot(followed.gradient, true).item() / product if product > 0 else 0.0
    return UpdateAlignment(cosine, own / other if other > 0 else float("nan"), followed.first, followed.last)
