"""What changes while a scenario runs: open windows, optimisers, mailboxes and ledgers, what is disabled (rules 7, 32)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.engine.reference.ledger import GradientLedger
from antiphon.engine.reference.mailbox import Mailbox
from antiphon.engine.reference.records import GroupUpdate, InputExample, LearningGroup
from antiphon.errors import DivergenceError
from antiphon.nets.random import uniform
from antiphon.nets.torch_optimisers import plain_optimiser, rate_shares

if TYPE_CHECKING:
    from antiphon.agents.learner import Learner
    from antiphon.comms.model import Model
    from antiphon.engine.core.system import System


class Optimizer:
    """A plain optimiser of torch on the parameters of one network or predictor, with its schedule (rule 22)."""

    def __init__(self, owner: Learner | Model) -> None:
        built = owner.optimiser
        self.owner, self.parameters, self.rate = owner, owner.trainable, owner.rate
        self.clip, self.updates, self.kind = built.clip, owner.updates, built.kind
        self.torch = plain_optimiser(built, self.rate.base)
        self.shares = rate_shares(self.torch, self.rate.base)

    def step(self, gradients: Sequence[Tensor | None], now: int) -> None:
        """Set, clip and follow gradients, one per parameter in order; a parameter that nothing reaches has zero."""
        if self.torch is None:  # frozen
            return
        pairs = zip(self.parameters, gradients, strict=True)
        found = [torch.zeros_like(p) if g is None else g for p, g in pairs]
        if self.clip is not None:
            norm = torch.stack([g.norm() for g in found]).norm()
            found = [g * (self.clip / norm).clamp(max=1.0) for g in found]
        for p, g in zip(self.parameters, found, strict=True):
            p.grad = g
        for group, share in zip(self.torch.param_groups, self.shares, strict=True):
            group["lr"] = self.rate(now) * share
        self.torch.step()
        self.torch.zero_grad()
        self.updates += 1


class State:
    """Everything that changes while a scenario runs, beside the declared agents, channels and groups of `system`."""

    def __init__(self, system: System) -> None:
        self.system, self.batch, groups = system, system.batch, system.groups
        self.agents, self.channels = system.agents, (channels := system.channels)
        self.ledgers = {name: GradientLedger(channel) for name, channel in channels.items()}
        self.mailboxes = {name: Mailbox(c, self.ledgers[name]) for name, c in channels.items()}
        self.groups = [LearningGroup(u.members, u.windows, u.owners, u.late, u.staleness) for u in groups]
        self.group_of = {name: group for group in self.groups for name in group.members}
        self.ties = system.joined_ties()
        self.learners = {name: Optimizer(agent.learner) for name, agent in system.owners().items()}
        self.predictors = {n: Optimizer(c.predictor) for n, c in channels.items() if c.predictor is not None}
        self.inputs = {n: Optimizer(c.input) for n, c in channels.items() if c.input is not None}
        self.input_examples: dict[str, list[InputExample]] = {}
        """By channel, until the end of the step."""
        keeping = [name for name, agent in system.agents.items() if agent.trail is not None]
        self.trails: dict[str, dict[int, Tensor]] = {name: {} for name in keeping}
        """Newest states of agents by step, [B, state size], where predictors are conditioned on them (rule 25)."""
        self.actions: dict[str, Tensor] = {}
        """[B, …]: the newest actions of agents that act, which hold until their next tick (rule 37)."""
        self.agent_disabled, self.predictor_disabled, self.input_disabled = set[str](), set[str](), set[str]()
        self.events: list[tuple[int, str]] = list(system.divergence.events)
        """What was clipped (the first time) or disabled: (step, one line)."""
        self.quarantine, self.bound = system.divergence.quarantine, system.divergence.bound

    def participates(self, agent: str, window: int) -> bool:
        """Return whether an agent learns from a window: sampled with `p_update` (rule 7); never once disabled (32)."""
        p, seed = self.agents[agent].p_update, self.agents[agent].participation_seed
        return agent not in self.agent_disabled and (p == 1.0 or uniform(seed, window, 1).item() < p)

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
        line += "lower its learning rate, or the scale of the synthetic gradients it receives"
        self.disable(self.agent_disabled, group.members, step, line)

    def disable(self, which: set[str], names: Iterable[str], step: int, line: str) -> None:
        """Put what has diverged into quarantine; DivergenceError where the scenario has none (rule 32)."""
        if not self.quarantine:
            raise DivergenceError(line)
        self.events.append((step, line))
        which.update(names)

    def sum_tied(self, updates: Sequence[GroupUpdate]) -> None:
        """Let tied parameters follow the sum of what reaches any of them; their agents step together (rule 27c)."""
        for ties in self.ties:
            names = {name for tie in ties for name, _ in tie}
            each = {name: [u.gradients[name] for u in updates if u.gradients.get(name)] for name in names}
            for turn in range(max(map(len, each.values()))):
                found = {name: own[turn] for name, own in each.items() if turn < len(own)}
                if all(g is None for own in found.values() for g in own):
                    continue
                for places in ([(name, i) for name, i in tie if name in found] for tie in ties):
                    reached = [g for name, i in places if (g := found[name][i]) is not None]
                    for name, i in places:
                        zeros = torch.zeros_like(self.learners[name].parameters[i])
                        found[name][i] = sum(reached, start=zeros)
