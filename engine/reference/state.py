"""What a step's algorithms work on: the declared system, its ledgers, and plain optimisers (rules 7, 32).

All that changes while a scenario runs is kept in the system's own agents, channels and groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.engine.heart.updates import Update
from antiphon.engine.reference.ledger import Ledger
from antiphon.errors import DivergenceError
from antiphon.nets.random import uniform
from antiphon.nets.torch_optimisers import TorchOptimiser, plain_optimiser, rate_shares

if TYPE_CHECKING:
    from antiphon.agents.learner import Learner
    from antiphon.comms.examples import Example
    from antiphon.comms.model import Model
    from antiphon.engine.heart.message import LearningGroup
    from antiphon.engine.heart.system import System


class Optimizer:
    """A plain optimiser of torch on the parameters of one network or predictor, with its schedule (rule 22).

    Its moments are the very tensors of the owner's optimiser, whose state is saved.
    """

    def __init__(self, owner: Learner | Model) -> None:
        self.owner, self.built, self.parameters = owner, owner.optimiser, owner.trainable
        if isinstance(self.built, TorchOptimiser):
            self.torch = self.built.torch
        else:
            self.torch = plain_optimiser(self.built, owner.rate.base)
        self.shares = rate_shares(self.torch, owner.rate.base)

    def step(self, gradients: Sequence[Tensor | None], now: int) -> None:
        """Set, clip and follow gradients, one per parameter in order; a parameter that nothing reaches has zero."""
        self.owner.updates += 1
        if self.torch is None:  # frozen
            return
        pairs = zip(self.parameters, gradients, strict=True)
        found = [torch.zeros_like(p) if g is None else g for p, g in pairs]
        if self.built.clip is not None:
            norm = torch.stack([g.norm() for g in found]).norm()
            found = [g * (self.built.clip / norm).clamp(max=1.0) for g in found]
        for p, g in zip(self.parameters, found, strict=True):
            p.grad = g
        for group, share in zip(self.torch.param_groups, self.shares, strict=True):
            group["lr"] = self.owner.rate(now) * share
        if not isinstance(self.built, TorchOptimiser):
            self._share_moments(self.torch)
        self.torch.step()
        for steps in self.built.state.get("steps", []):
            steps += 1
        self.torch.zero_grad()

    def _share_moments(self, plain: torch.optim.Optimizer) -> None:
        """Give torch the owner's moments; it counts steps by parameter, and the owner once."""
        saved = self.built.state
        names = {"momentum": "momentum_buffer", "mean": "exp_avg", "square": "exp_avg_sq"}
        for i, p in enumerate(self.parameters):
            plain.state[p] = {theirs: saved[ours][i] for ours, theirs in names.items() if ours in saved}
            if "steps" in saved:
                plain.state[p]["step"] = saved["steps"][0].clone()


class State:
    """A scenario that runs: what is computed of the declared agents, channels and groups of `system`."""

    def __init__(self, system: System) -> None:
        self.system, self.batch, self.group_of = system, system.batch, system.group_of
        self.agents, self.channels = system.agents, (channels := system.channels)
        self.ledgers = {name: Ledger(channel) for name, channel in channels.items()}
        self.ties = system.ties()
        self.learners = {name: Optimizer(agent.learner) for name, agent in system.owners().items()}
        self.predictors = {
            n: Optimizer(c.gradient.predictor)
            for n, c in channels.items()
            if c.gradient.predictor is not None
        }
        self.inputs = {n: Optimizer(c.input.model) for n, c in channels.items() if c.input.model is not None}
        self.input_examples: dict[str, list[Example]] = {}
        """By channel, until the end of the step."""
        self.quarantine, self.bound = system.divergence.quarantine, system.divergence.bound

    def participates(self, agent: str, window: int) -> bool:
        """Return whether an agent learns from a window: sampled with `p_update` (rule 7); never once disabled (32)."""
        own = self.agents[agent]
        drawn = (
            own.participation.probability == 1.0
            or uniform(own.participation.seed, window, 1).item() < own.participation.probability
        )
        return own.agent_disabled is False and drawn

    def divergence_of(self, gradients: Iterable[Tensor | None], others: Iterable[Tensor | None]) -> str:
        """Return what is wrong before anything moves: something is not finite, or the gradients too long; '': nothing."""
        moving = [g for g in gradients if g is not None]
        if not all(t.isfinite().all() for t in [*moving, *(t for t in others if t is not None)]):
            return "is not finite"
        if self.bound is not None and moving and torch.stack([g.norm() for g in moving]).norm() > self.bound:
            return f"is longer than training.bound {self.bound:g}"
        return ""

    def stop(self, group: LearningGroup, step: int, wrong: str) -> None:
        """Put a group that has diverged into quarantine, `wrong` being why; DivergenceError where the scenario has none."""
        line = f"agent {', '.join(map(repr, group.members))}: {wrong}; "
        self.report(
            step, line + "lower its learning rate, or the scale of the synthetic gradients it receives"
        )
        for name in group.members:
            self.agents[name].agent_disabled = True

    def report(self, step: int, line: str) -> None:
        """Note what is put into quarantine; DivergenceError where the scenario has none (rule 32)."""
        if not self.quarantine:
            raise DivergenceError(line)
        self.system.divergence.events.append((step, line))

    def sum_tied(self, updates: Sequence[Update]) -> None:
        """Let tied parameters follow the sum of what reaches any of them; their agents step together (rule 27c)."""
        for ties in self.ties:
            names = {name for tie in ties for name, _ in tie}
            each = {name: [own for u in updates if (own := _gradients(u, name))] for name in names}
            for turn in range(max(map(len, each.values()))):
                found = {name: own[turn] for name, own in each.items() if turn < len(own)}
                if all(g is None for own in found.values() for g in own):
                    continue
                for places in ([(name, i) for name, i in tie if name in found] for tie in ties):
                    reached = [g for name, i in places if (g := found[name][i]) is not None]
                    for name, i in places:
                        zeros = torch.zeros_like(self.learners[name].parameters[i])
                        found[name][i] = sum(reached, start=zeros)


def _gradients(update: Update, name: str) -> list[Tensor | None]:
    """The gradients of an agent in an update, which are changed in place; none: it has none there."""
    found = update.gradients.get(name, [])
    assert isinstance(found, list)
    return found
