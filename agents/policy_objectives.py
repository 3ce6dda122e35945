"""What every policy objective has: the losses of a window of ticks from its sampled actions, and the keys of a scenario.

Shapes: T ticks of the window, rows = members x environments, N members of a stack.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from antiphon.agents.advantages import Advantages, MemberMeans, Trajectory
from antiphon.agents.distributions import Distribution
from antiphon.agents.objectives import AnyObjective
from antiphon.base import kinds
from antiphon.base.spec import Count
from antiphon.base.tools import by_key
from antiphon.comms.backward_requests import Slopes
from antiphon.nets.per_member import PerMember, scaled


@dataclass(frozen=True, slots=True, eq=False)
class PolicyPorts:
    """What a policy is at the ticks of a window, or at some rows of them, with its graph."""

    outputs: Tensor | None
    """[T, rows, parameters]; None if only messages are sampled."""
    values: Tensor | None
    """[T, rows]; None where there are none."""
    messages: Sequence[tuple[Tensor, Tensor]] = ()
    """Log-probability and entropy, [T, rows] each, of every sampled message."""
    member_count: int = 1
    """N, side by side in the rows."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyLosses:
    """The losses of one pass over a window."""

    losses: Tensor
    """[T, rows], zero where not valid: a member's sum over ticks and environments, divided by its B, is the mean over its
    valid ones."""
    log_prob: Tensor | None
    """[T, rows], a constant: log-probability of the actions and sampled messages, of which later passes of `ppo` use the first
    pass's; None: no later pass needs it."""
    metrics: dict[str, Tensor]
    """[N] by name, means over the valid ticks: `policy_loss`, `entropy`; with values `value_loss` and `explained_variance`
    (NaN if all returns are the same). NaN for a member without valid ticks."""
    change: PolicyChange | None = None
    """Of `ppo`: how far the policy is from itself, which is the metric where no further pass has changed it."""


@dataclass(frozen=True, slots=True, eq=False)
class PassConstants:
    """Constants of a further pass over some rows of a window, [T, rows] each."""

    actions: Tensor | None
    """[T, rows, …]: sampled actions; None if only messages are."""
    log_prob: Tensor | None
    """Log-probabilities of the first pass; None: they are not needed."""
    valid: Tensor
    """bool: the ticks that are trained on."""
    targets: Tensor
    share: Tensor
    """What a tick counts in what its member learns, zero where not valid."""
    cost: Tensor
    """Minus the advantages, times the share."""

    @classmethod
    def of_parts(
        cls,
        actions: Tensor | None,
        log_prob: Tensor | None,
        advantages: Advantages,
        weight: PerMember,
        member_count: int,
        parts: Sequence[Tensor],
    ) -> list[PassConstants]:
        """Return the constants of passes over some rows each, `parts`, as many of each member; those of as many rows are made at once.

        Args:
            weight: Of what a member learns, the mean over its valid ticks.
        """
        found: dict[int, PassConstants] = {}
        for places in by_key((len(rows), place) for place, rows in enumerate(parts)).values():
            rows = torch.stack([parts[place] for place in places])
            columns = actions, log_prob, advantages.valid, advantages.targets, advantages.advantages
            *kept, gain = (None if values is None else _in_parts(values, rows) for values in columns)
            means = MemberMeans(_in_parts(advantages.valid, rows), member_count)
            share = scaled(means.weights(advantages.advantages.dtype), weight / means.batch, 2)
            assert gain is not None
            of_passes = (
                [None] * len(places) if values is None else values.unbind()
                for values in (*kept, share, gain * -share)
            )
            found |= zip(places, map(cls, *of_passes), strict=True)
        return [found[place] for place in range(len(parts))]


def _in_parts(values: Tensor, rows: Tensor) -> Tensor:
    """[T, all rows, …] at the rows of P parts, [P, n], as [P, T, n, …]."""
    selected = values.index_select(1, rows.flatten())
    return selected.view(len(values), *rows.shape, *values.shape[2:]).transpose(0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class PolicyChange:
    """How far a policy is from that of the first pass, over the rows of a later one."""

    log_ratio: Tensor
    """[T, rows], a constant: the change of the actions' log-probabilities, zero where not valid."""
    clip: Any
    """Largest deviation of the probability ratio from 1, of all rows or [rows]."""
    valid: Tensor
    """[T, rows] bool: the ticks that are trained on."""
    member_count: int

    @staticmethod
    def metrics(changes: Sequence[PolicyChange]) -> dict[str, Tensor]:
        """Return `approx_kl` and `clip_fraction` of each member, [N], means over passes with valid ticks; of as many rows they are computed as one."""
        approx_kl, clip_fraction, has_valid = list[Tensor](), list[Tensor](), list[Tensor]()
        for equal in by_key((change.log_ratio.shape[1], change) for change in changes).values():
            log_ratio = torch.stack([change.log_ratio for change in equal])
            valid = torch.stack([change.valid for change in equal])
            means, deviation = MemberMeans(valid, equal[0].member_count), log_ratio.exp() - 1
            # Schulman 2020, "Approximating KL divergence"
            has_valid.append(means.count > 0)
            approx_kl.append(means.of(deviation - log_ratio))
            clip_fraction.append(means.of((deviation.abs() > equal[0].clip).to(log_ratio.dtype)))
        counted = torch.cat(has_valid)
        share = counted.to(approx_kl[0].dtype).mean(0)
        return {
            name: torch.cat(values).where(counted, 0.0).mean(0) / share
            for name, values in (("approx_kl", approx_kl), ("clip_fraction", clip_fraction))
        }


# --- the objective -----------------------------------------------------------------------------------------

MINIBATCHES = 4
"""Minibatches of further passes where the scenario names no number and there are as many environments."""


@dataclass(frozen=True)
class PolicyObjective(AnyObjective):
    """Objective of an agent that learns which actions to take: it maximises the rewards that follow.

    Its fields are the keys of its `Options`; of a stack, a number in which the members differ is one for each. It is computed
    for a whole window: first `advantages`, then `losses`.
    """

    distribution: Distribution | None
    """Distribution of the action; None if only messages are sampled."""
    discount: PerMember = 0.99
    epochs: int = 1
    minibatches: int = 1
    replay: int = 1
    """The newest windows that passes after the first draw from; 1: they repeat the newest, which is not kept."""

    metric = "return"
    needs_rewards: ClassVar[bool] = True
    refuses: ClassVar[frozenset[str]] = frozenset({"target", "read", "reduction"})

    def means(self, score: Tensor, count: float) -> dict[str, float]:
        """Return the mean over ticks of the returns that its windows learn from: discounted, and bootstrapped at their ends.

        They are no returns of episodes, the metric `return`.
        """
        return {"value_target": float(score) / count}

    @classmethod
    def in_batch(cls, distribution: Distribution | None, options: Mapping[str, Any], batch: int) -> Self:
        """Return the objective with the options of a scenario, of an agent in `batch` environments."""
        if "minibatches" in options and options["minibatches"] is None:
            options = {**options, "minibatches": min(MINIBATCHES, batch)}
        return cls(distribution, **options)

    def at(self, step: int | None) -> Distribution | None:
        """Return what chooses the actions at a step; None: after the training."""
        return self.distribution

    def metrics_at(self, step: int) -> dict[str, PerMember]:
        """Return metrics of it at a step, by name: numbers that follow a schedule."""
        return {}

    @property
    @abstractmethod
    def logged(self) -> tuple[str, ...]:
        """Names of the metrics of its windows, `metrics` of `PolicyLosses`."""

    @property
    def updates(self) -> int:
        """Optimiser steps of a window: one, and one for each minibatch of the further passes."""
        return 1 + (self.epochs - 1) * self.minibatches

    @property
    def key(self) -> Hashable:
        """A key that is equal for objectives that differ in nothing but numbers of which a stack has one for each."""
        return type(self), *(getattr(self, own.name) for own in fields(self) if own.type != "PerMember")

    @abstractmethod
    def advantages(
        self,
        trajectory: Trajectory,
        values: Tensor | None = None,
        *,
        member_count: int = 1,
        statistics: Tensor | None = None,
        counted: bool = True,
    ) -> Advantages:
        """Return what a window's losses use as constants.

        Args:
            values: [T, rows], treated as constants; None where there are none.
            member_count: N, side by side in the rows.
            statistics: Running statistics of returns before the window, [N, 3]; None: returns are not normalised.
            counted: Whether the window's returns are counted in them, as those of a window of earlier are not.
        """

    @abstractmethod
    def losses(self, ports: PolicyPorts, actions: Tensor | None, advantages: Advantages) -> PolicyLosses:
        """Return the losses of the first pass over a window, of actions [T, rows, …] as sampled; None: only messages are."""

    @abstractmethod
    def slopes(self, ports: PolicyPorts, constants: PassConstants) -> tuple[Slopes, PolicyChange | None]:
        """Return what a further pass over some rows learns, and how far the policy has changed, where that matters.

        Slopes are a third of the operations of a loss and its backward pass, of which a window has dozens.
        """


class PassesOptions(kinds.Options):
    """Keys of objectives with several passes over a window.

    Attributes:
        epochs: Passes over a window.
        minibatches: Minibatches, parts of the environments, in each pass after the first; None: 4, or the batch if that is
            smaller.
    """

    epochs: Count = 4
    minibatches: Count | None = None

    @property
    def passes(self) -> int:
        return self.epochs


class RewardOptions(kinds.Options):
    """Keys of every policy.

    Attributes:
        discount: Discount factor per tick of the agent.
        entropy: Weight of the entropy bonus.
    """

    discount: Annotated[float, Field(ge=0, le=1)] = 0.99
    entropy: Annotated[float, Field(ge=0)] = 0.01
