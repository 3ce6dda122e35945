"""What every policy objective has: the losses of a window of ticks from its sampled actions, and the keys of a scenario."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field
from torch import Tensor

from antiphon.agents.advantages import Advantages, Trajectory
from antiphon.agents.distributions import Distribution, Sampler
from antiphon.agents.objectives import AnyObjective
from antiphon.agents.policy_passes import PassConstants, PolicyChange, PolicyLosses, PolicyPorts
from antiphon.base import kinds
from antiphon.base.spec import Count
from antiphon.comms.backward_requests import Slopes
from antiphon.nets.per_member import PerMember

MINIBATCHES = 4
"""Minibatches of further passes where the scenario names no number and there are as many environments."""


@dataclass(frozen=True)
class PolicyObjective(AnyObjective):
    """Objective of an agent that learns which actions to take: it maximises the rewards that follow.

    Of a stack, a number in which the members differ is one for each. It is computed for a whole window: first `advantages`,
    then `losses`.
    """

    distribution: Distribution | None
    """Distribution of the action; None if only messages are sampled."""
    discount: PerMember = 0.99
    """Discount factor per tick."""
    epochs: int = 1
    """Passes over a window, including the first."""
    minibatches: int = 1
    """Minibatches, parts of the environments, in each pass after the first."""

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
        """Return the objective with the options of a scenario, of an agent in `batch` environments.

        Raises:
            ScenarioError: It has no such actions.
        """
        return cls(distribution, **options)

    def at(self, step: int | None) -> Sampler | None:
        """Return what chooses the actions at a step; None: after the training."""
        return self.distribution

    def metrics_at(self, step: int) -> dict[str, PerMember]:
        """Return metrics of it at a step, by name: numbers that follow a schedule."""
        return {}

    @property
    def has_values(self) -> bool:
        return self.needs_value

    @property
    @abstractmethod
    def logged(self) -> tuple[str, ...]:
        """Names of the metrics of its windows, `metrics` of `PolicyLosses`."""

    @property
    def windows_kept(self) -> int:
        """The newest windows that passes after the first draw from; 1: they repeat the newest, which is not kept."""
        return 1

    @property
    def updates(self) -> int:
        """Optimiser steps of a window: one, and one for each minibatch of the further passes."""
        return 1 + (self.epochs - 1) * self.minibatches

    @property
    def key(self) -> Hashable:
        """A key that is equal for objectives that are the same function but for its numbers."""
        return type(self), self.distribution, self.epochs, self.minibatches

    @abstractmethod
    def advantages(
        self,
        trajectory: Trajectory,
        values: Tensor | None = None,
        *,
        member_count: int = 1,
        statistics: Tensor | None = None,
    ) -> Advantages:
        """Return what a window's losses use as constants.

        Args:
            values: [T, rows], treated as constants; None where there are none.
            member_count: N, side by side in the rows.
            statistics: Running statistics of returns before the window, [N, 3]; None: returns are not normalised.
        """

    @abstractmethod
    def losses(self, ports: PolicyPorts, actions: Tensor | None, advantages: Advantages) -> PolicyLosses:
        """Return the losses of the first pass over a window.

        Args:
            actions: [T, rows, …] as sampled; None if only messages are.
            advantages: Advantages of the same rows.
        """

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

    def updates(self, batch: int) -> int:
        """Return the optimiser steps of a window: one, and one for each minibatch of the further passes."""
        return 1 + (self.epochs - 1) * minibatches_in(batch, self.minibatches)


def minibatches_in(batch: int, minibatches: int | None) -> int:
    """Return the number of minibatches of `batch` environments, where the scenario names `minibatches`."""
    return minibatches or min(MINIBATCHES, batch)


class RewardOptions(kinds.Options):
    """Keys of every policy.

    Attributes:
        discount: Discount factor per tick of the agent.
        entropy: Weight of the entropy bonus.
    """

    discount: Annotated[float, Field(ge=0, le=1)] = 0.99
    entropy: Annotated[float, Field(ge=0)] = 0.01
