"""What a step's algorithms work on: the declared system, the ends of its channels, and plain optimisers (rules 7, 22, 27, 32).

All that changes while a scenario runs is kept in the system's own agents, channels and groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.base.errors import DivergenceError
from antiphon.comms.predictors import Model
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Update
from antiphon.nets.optimisers import BETAS, EPSILON, Adam, Optimiser
from antiphon.nets.random import uniform
from antiphon.nets.torch_optimisers import TorchOptimiser


def plain_optimiser(built: Optimiser, lr: float) -> torch.optim.Optimizer | None:
    """Return torch's optimiser with the same settings, in its initial state; None if there are no parameters."""
    if not built.parameters:
        return None
    settings: dict[str, Any] = {
        "lr": lr,
        "weight_decay": built.weight_decay,
        "foreach": False,
        "fused": False,
    }
    if not isinstance(built.rule, Adam):
        return torch.optim.SGD(built.parameters, momentum=built.momentum, **settings)
    kind = torch.optim.AdamW if built.rule.decoupled else torch.optim.Adam
    return kind(built.parameters, betas=BETAS, eps=EPSILON, **settings)


Gradients = Sequence[Tensor | None]
MOMENTS = {"momentum": "momentum_buffer", "mean": "exp_avg", "square": "exp_avg_sq"}
"""Names of an optimiser's moments where they are saved, and in torch."""


class Optimizer:
    """A plain optimiser of torch on the parameters of one network or predictor, with its schedule (rule 22).

    Its moments are the very tensors of the owner's optimiser, whose state is saved.
    """

    def __init__(self, owner: Learner | Model) -> None:
        self.owner, self.built = owner, owner.optimiser
        if isinstance(self.built, TorchOptimiser):
            self.torch = self.built.torch
        else:
            self.torch = plain_optimiser(self.built, float(owner.rate.base))
        self.parameters = self.built.parameters  # of complex numbers, pairs of real ones
        groups = [] if self.torch is None else self.torch.param_groups
        self.shares = [group["lr"] / float(owner.rate.base) for group in groups]

    def step(
        self, gradients: Gradients, now: int, norm: Tensor | None = None, *, further: bool = False
    ) -> None:
        """Clip and follow gradients, one per parameter in order, if any; a parameter that nothing reaches stays.

        `norm`: that of all gradients that are clipped together (rule 7a); None: of these. `further`: of a further pass, where all that nothing
        reaches stays (rule 42).
        """
        if self.torch is None or all(g is None for g in gradients):  # frozen, or not reached
            return
        self.owner.updates += 1
        found = list(gradients) if further else self.owner.filled(gradients)
        present = [g for g in found if g is not None]
        if self.built.clip is not None:
            norm = torch.stack([g.norm() for g in present]).norm() if norm is None else norm
            factor = (self.built.clip / (norm + 1e-6)).clamp(max=1.0)  # as torch does
            found = [None if g is None else g * factor for g in found]
        for group, share in zip(self.torch.param_groups, self.shares, strict=True):
            group["lr"] = self.owner.rate(now) * share
        saved = {} if isinstance(self.built, TorchOptimiser) else self.built.state
        for i, p in enumerate(self.parameters):
            p.grad = found[i]
            moments = {theirs: saved[ours][i] for ours, theirs in MOMENTS.items() if ours in saved}
            if "steps" in saved:  # torch counts by parameter, the owner once (rule 7)
                moments["step"] = saved["steps"][0].clone()
            if moments:
                self.torch.state[p] = moments
        self.torch.step()
        for steps in saved.get("steps", []):
            steps += 1
        self.torch.zero_grad()


def gradients_of(terms: list[Tensor], inputs: list[Tensor]) -> list[Tensor | None]:
    """Return the gradients of the sum of the terms that have a graph; None where nothing depends on an input."""
    followed = [term for term in terms if term.requires_grad]
    if not followed or not inputs:
        return [None] * len(inputs)
    total = torch.stack(followed).sum()
    return list(torch.autograd.grad(total, inputs, retain_graph=True, allow_unused=True))


class State:
    """A scenario that runs: what is computed of the declared agents, channels and groups of `system`."""

    def __init__(self, system: System) -> None:
        self.system, self.batch, self.group_of = system, system.batch, system.group_by_agent
        self.agents, self.channels = system.agents, system.channels
        self.nowhere = torch.zeros(system.batch, dtype=torch.bool, device=system.device)
        self.nothing = self.nowhere.to(system.dtype)
        owners = [agent.learner for agent in self.agents.values()]
        models = [model for channel in self.channels.values() for model in channel.models]
        self.optimizers: dict[object, Optimizer] = {one: Optimizer(one) for one in (*owners, *models)}

    def participates(self, agent: str, window: int) -> bool:
        """Return whether an agent learns from a window: drawn with its probability (rule 7)."""
        draws = self.agents[agent].participation
        return draws is None or uniform(draws.random_seeds[0], window, 1).item() < float(draws.probability)

    def gradients(
        self, update: Update, losses: list[Tensor], step: int, returned: Sequence[Tensor | None] = ()
    ) -> dict[str, list[Tensor | None]]:
        """Return the gradients of a sum of losses, by learner; DivergenceError where the group has diverged (rule 32).

        An agent that does not participate has none (rule 7); tied agents follow the mean of theirs (rule 27a).
        """
        group, scores = update.group, [own.loss for own in update.window_loss.reported_loss_by_agent.values()]
        names = [n for n in group.agent_count_by_learner if self.participates(n, update.window.number)]
        parameters = {name: self.agents[name].learner.trainable for name in names}
        found = gradients_of(losses, [p for own in parameters.values() for p in own])
        for what, tensors in (("loss", scores), ("gradient", [*found, *returned])):
            if not all_finite(tensors):
                line = f"agent {', '.join(map(repr, group.agent_names))}: the {what} at step {step + 1} is not finite"
                raise DivergenceError(f"{line}; lower its learning rate")
        gradients_by = {}
        for name, own in parameters.items():
            mine, found = found[: len(own)], found[len(own) :]
            mean = [None if g is None else g / group.agent_count_by_learner[name] for g in mine]
            gradients_by[name] = mean
        return gradients_by

    def move(self, gradients: Mapping[str, Gradients], step: int, *, further: bool = False) -> None:
        """Let the agents of a learning group follow their gradients, those that clip by their joint norm (rule 7a).

        `further`: in a further pass (rule 42).
        """
        own = {name: self.optimizers[self.agents[name].learner] for name in gradients}
        keys = {name: list(agent.learner.parameters) for name, agent in self.agents.items()}
        moved = [
            [(name, keys[name].index(key)) for name, key in tie if name in gradients]
            for tie in self.system.tied_parameters
        ]
        again = {place for tie in moved for place in tie[1:]}  # one weight counts once
        lengths = [
            gradient.norm()
            for name, each in gradients.items()
            for place, gradient in enumerate(each)
            if own[name].built.clip is not None and gradient is not None and (name, place) not in again
        ]
        norm = torch.stack(lengths).norm() if lengths else None
        for name, each in gradients.items():
            own[name].step(each, step, norm, further=further)

    def sum_tied(self, updates: Sequence[Update]) -> None:
        """Let tied parameters follow the sum of what reaches any of them; their agents step together (rule 27c)."""
        keys = {name: list(agent.learner.parameters) for name, agent in self.agents.items()}
        ties = [[(name, keys[name].index(key)) for name, key in tie] for tie in self.system.tied_parameters]
        # A tied agent learns from one window a step: it never waits for a delayed gradient.
        of = {name: update for update in updates for name, own in update.gradients_by_learner.items() if own}
        found = {name: list(update.gradients_by_learner[name]) for name, update in of.items()}
        reached = {name for name, own in found.items() if any(g is not None for g in own)}
        for tie in ties * len(ties):  # and those tied to them, and to these
            if not reached.isdisjoint(name for name, _ in tie):
                reached.update(name for name, _ in tie)
        for tie in ties:
            places = [(name, i) for name, i in tie if name in found and name in reached]
            gradients = [g for name, i in places if (g := found[name][i]) is not None]
            for name, i in places if gradients else ():
                found[name][i] = torch.stack(gradients).sum(0)
        for name, update in of.items():
            update.gradients_by_learner[name] = found[name]


def all_finite(tensors: Iterable[Tensor | None]) -> bool:
    """Return whether nothing is wrong before anything moves (rule 32)."""
    return all(bool(t.isfinite().all()) for t in tensors if t is not None)
