"""Policy gradients: losses of a window from the log-probabilities of what was sampled, weighted by advantages.

Sources: `ppo`, Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7 and 9; `a2c`, Mnih et al. 2016,
"Asynchronous methods for deep reinforcement learning", with n-step returns over the window; `reinforce`, Williams 1992,
"Simple statistical gradient-following algorithms for connectionist reinforcement learning".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import mse_loss

from antiphon.agents.advantages import (
    Advantages,
    MemberMeans,
    Trajectory,
    advantages_over,
    monte_carlo_returns,
)
from antiphon.agents.policy_objectives import (
    MINIBATCHES,
    PassConstants,
    PassesOptions,
    PolicyChange,
    PolicyLosses,
    PolicyObjective,
    PolicyPorts,
    RewardOptions,
)
from antiphon.base import extensions, kinds
from antiphon.comms.backward_requests import Slopes, constant
from antiphon.nets.per_member import PerMember, scaled, to_rows

NORMALISED_FROM = 32
"""Least samples of a window for which advantages are normalised; the deviation of fewer is too uncertain."""


@dataclass(frozen=True)
class PolicyGradient(PolicyObjective):
    """Policy gradients: the losses of one pass are

        policy + value (V - return)^2 - entropy H(pi),

    where the loss `policy` of actions is -log pi(a) A, unless the kind has another (`_of_actions`).
    """

    trace: PerMember = 0.95
    entropy: PerMember = 0.01
    value: PerMember = 0.5
    normalise: str = "none"

    @property
    def logged(self) -> tuple[str, ...]:
        return ("policy_loss", "entropy", *(("value_loss", "explained_variance") if self.needs_value else ()))

    def advantages(
        self,
        trajectory: Trajectory,
        values: Tensor | None = None,
        *,
        member_count: int = 1,
        statistics: Tensor | None = None,
        counted: bool = True,
    ) -> Advantages:
        """Return advantages, normalised per member over its valid samples if there are 32 or more.

        A member's normalised advantages are zero where its returns are all the same: no action was better than another. Without
        values the baseline is the mean return.
        """
        if not self.needs_value:
            returns, valid = monte_carlo_returns(trajectory, to_rows(self.discount, trajectory.rewards, 1))
            means = MemberMeans(valid, member_count)
            baseline = means.to_rows(means.of(returns))
            raw = Advantages(returns - baseline, returns, valid, returns)
        else:
            assert values is not None
            means = MemberMeans(~trajectory.unseen, member_count)
            raw = advantages_over(
                trajectory, values, statistics, self.discount, self.trace, means, counted=counted
            )
        varied = means.to_rows(means.vary(raw.returns, raw.advantages))
        advantages = raw.advantages / raw.deviation
        shifted = advantages - means.to_rows(means.of(advantages))
        deviation = means.to_rows(means.of(shifted.square(), less=1).sqrt())
        enough = means.to_rows(means.count >= NORMALISED_FROM)
        # Divided by their own deviation, the errors of values, or rounding, would look like good and bad actions.
        normalised = (shifted / (deviation + 1e-8)).where(varied, torch.zeros_like(shifted))
        advantages = torch.where(enough, normalised, advantages)
        return replace(raw, advantages=advantages.where(raw.valid, torch.zeros_like(advantages)))

    def losses(self, ports: PolicyPorts, actions: Tensor | None, advantages: Advantages) -> PolicyLosses:
        (log_prob, entropy), values = self._of_choices(ports, actions), ports.values
        means = MemberMeans(advantages.valid, ports.member_count)
        policy, change = self._of_actions(log_prob, advantages, ports.member_count)
        total = policy - scaled(entropy, self.entropy, 1)
        averaged = {"policy_loss": policy, "entropy": entropy}
        if values is not None:
            averaged["value_loss"] = error = mse_loss(values, advantages.targets, reduction="none")
            total = total + scaled(error, self.value, 1)
        metrics = {name: means.of(constant(term)) for name, term in averaged.items()}
        # not `values`: these are in units of before the window, the targets of after it
        if advantages.values is not None:
            errors = advantages.returns - advantages.values
            variance, left = (means.moments(each)[:, 2] for each in (advantages.returns, errors))
            metrics["explained_variance"] = torch.where(variance > 0, 1 - left / variance, torch.nan)
        return PolicyLosses(total * means.weights(total.dtype), constant(log_prob), metrics, change)

    def slopes(self, ports: PolicyPorts, constants: PassConstants) -> tuple[Slopes, PolicyChange | None]:
        (log_prob, entropy), values = self._of_choices(ports, constants.actions), ports.values
        slope, change = self._slope_of_actions(constant(log_prob), constants, ports.member_count)
        slopes = [(log_prob, slope), (entropy, scaled(constants.share, -self.entropy, 1))]
        if values is not None:
            error = constant(values) - constants.targets
            slopes.append((values, error * scaled(constants.share, 2 * self.value, 1)))
        return slopes, change

    def _of_choices(self, ports: PolicyPorts, actions: Tensor | None) -> tuple[Tensor, Tensor]:
        parts = list(ports.messages)
        if self.distribution is not None and ports.outputs is not None and actions is not None:
            parts.insert(0, self.distribution.log_prob_and_entropy(ports.outputs, actions))
        if len(parts) == 1:
            return parts[0]
        log_prob, entropy = (torch.stack(terms).sum(0) for terms in zip(*parts, strict=True))
        return log_prob, entropy

    def _of_actions(
        self, log_prob: Tensor, advantages: Advantages, member_count: int
    ) -> tuple[Tensor, PolicyChange | None]:
        """Return the loss of the actions in the first pass, [T, rows], and of `ppo` the change of the policy."""
        return -log_prob * advantages.advantages, None

    def _slope_of_actions(
        self, log_prob: Tensor, constants: PassConstants, member_count: int
    ) -> tuple[Tensor, PolicyChange | None]:
        """Return the slope of that loss by the log-probabilities in a further pass, and the change."""
        return constants.cost, None


@extensions.objective("reinforce")
class Reinforce(PolicyGradient):
    """The gradient of log-probabilities, weighted by returns (Williams 1992)."""

    refuses: ClassVar[frozenset[str]] = frozenset({"target", "read", "reduction", "critic"})
    Options: ClassVar[type[kinds.Options]] = RewardOptions


@extensions.objective("a2c")
class A2c(PolicyGradient):
    """Advantage actor-critic: advantages over a learned value (Mnih et al. 2016, synchronous)."""

    needs_value: ClassVar[bool] = True

    class Options(RewardOptions):
        """Keys of policies with a value.

        Attributes:
            trace: The lambda of generalised advantages.
            value: Weight of the value's squared error.
            normalise: `returns`: values predict returns normalised by their running mean and deviation.
        """

        trace: Annotated[float, Field(ge=0, le=1)] = 0.95
        value: Annotated[float, Field(ge=0)] = 0.5
        normalise: Literal["returns", "none"] = "returns"


@extensions.objective("ppo")
@dataclass(frozen=True)
class Ppo(PolicyGradient):
    """Several passes over a window, with clipped ratios (Schulman et al. 2017).

    The loss of actions is -min(q A, clamp(q, 1 - clip, 1 + clip) A), where q = pi(a) / pi_first(a) (eq. 7).
    """

    epochs: int = 4
    minibatches: int = MINIBATCHES
    clip: PerMember = 0.2

    needs_value: ClassVar[bool] = True
    equal_in_group: ClassVar[tuple[str, ...]] = ("epochs", "minibatches")

    class Options(A2c.Options, PassesOptions):
        """Keys of PPO.

        Attributes:
            clip: Largest deviation of the probability ratio from 1.
        """

        clip: Annotated[float, Field(gt=0)] = 0.2

    @property
    def logged(self) -> tuple[str, ...]:
        return (*super().logged, "approx_kl", "clip_fraction")

    def _of_actions(
        self, log_prob: Tensor, advantages: Advantages, member_count: int
    ) -> tuple[Tensor, PolicyChange | None]:
        # All ratios are 1, and none is clipped.
        log_ratio = (log_prob - constant(log_prob)).where(advantages.valid, 0.0)
        clip = to_rows(self.clip, log_ratio, 1)
        change = PolicyChange(constant(log_ratio), clip, advantages.valid, member_count)
        return log_ratio.exp() * -advantages.advantages, change

    def _slope_of_actions(
        self, log_prob: Tensor, constants: PassConstants, member_count: int
    ) -> tuple[Tensor, PolicyChange | None]:
        assert constants.log_prob is not None
        # Where nothing is learned a ratio might be infinite.
        log_ratio = (log_prob - constants.log_prob).where(constants.valid, 0.0)
        ratio, clip = log_ratio.exp(), to_rows(self.clip, log_ratio, 1)
        free, clipped = ratio * constants.cost, ratio.clamp(1 - clip, 1 + clip) * constants.cost
        # Where both are equal the ratio is not clipped.
        slope = free.masked_fill_(free < clipped, 0.0)
        return slope, PolicyChange(log_ratio, clip, constants.valid, member_count)
