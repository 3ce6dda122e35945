"""Policy objectives: losses of a window of ticks from its sampled actions and the rewards that followed.

All are pure functions of tensors. Shapes: T ticks of the window, rows = members x environments (`member_count` agents of one
kind side by side, [N * B]; 1 for a single agent).

Sources: generalised advantage estimation, Schulman et al. 2016, "High-dimensional continuous control using generalized
advantage estimation", eq. 16; `ppo`, Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7 and 9; `a2c`,
Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", with n-step returns over the window;
`reinforce`, Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import mse_loss

from antiphon.agents.distributions import Distribution, Sampler
from antiphon.agents.objectives import AnyObjective
from antiphon.base import extensions, kinds
from antiphon.base.spec import Count
from antiphon.comms.backward_requests import Slopes, constant
from antiphon.nets.per_member import PerMember, scaled, to_rows

NORMALISED_FROM = 32
"""Least samples of a window for which advantages are normalised; the deviation of fewer is too uncertain."""
RETURNS = "value.returns"
"""Name of the running statistics of a policy's returns in its learner, [3]: weight, mean and variance."""
MINIBATCHES = 4
"""Minibatches of further passes where the scenario names no number and there are as many environments."""
WINDOW_WEIGHT = 0.01
"""Weight of a window in the running statistics of returns."""


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Actions of an agent in a window, and their outcomes; [T, rows, …] each. Made by `trajectory_of`."""

    actions: Tensor | None
    """Sampled actions; None if the policy is only over messages."""
    rewards: Tensor
    """Rewards summed from the tick to the next one, or to the end of the episode; zero without experience."""
    terminated: Tensor
    """bool: the episode terminated before the next tick; nothing follows."""
    truncated: Tensor
    """bool: it was truncated before the next tick."""
    unseen: Tensor
    """bool: the outcome is unknown, or the tick was no experience; it is not trained on."""
    bootstrapped: Tensor
    """bool: it was truncated, and the value of its final observation is known, which replaces what follows."""
    final_values: Tensor | None
    """[T, rows]: the value of the final observation, as the network has it, where `bootstrapped`; None: nowhere."""
    waiting: Tensor | None = None
    """[T, rows] bool: it was not the agent's turn, so that what follows counts with its last one; None: nowhere."""

    def advantages(
        self, values: Tensor, final_values: Tensor | None, discount: PerMember, trace: PerMember
    ) -> Tensor:
        """Return generalised advantages, see `gae`; `values` and `final_values`: [T, rows] each, constants."""
        return gae(
            *(self.rewards, values, self.terminated, self.unseen, discount, trace),
            bootstrapped=self.bootstrapped,
            final_values=final_values,
            waiting=self.waiting,
        )


def trajectory_of(
    actions: Tensor | None,
    rewards: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    experience: Tensor,
    *,
    known_length: bool,
    final_values: Tensor | None = None,
    final_known: Tensor | None = None,
    waiting: Tensor | None = None,
) -> Trajectory:
    """Return the trajectory of a window.

    A tick is unseen if it was no experience, if its episode was truncated before the next tick and the value of the final
    observation is not known, or if it is the last of the window. If the length of episodes is known beforehand, a last tick
    counts if its episode ends with it. Otherwise it does not count: the outcome of a last tick would be known only if it is
    an end, a biased selection.

    An agent without experience at its next tick, although its episode continues, has left the episode: nothing follows for it.
    Where agents take turns, what follows a tick includes all that follows the ticks up to the agent's next turn, and the last of
    a window is the agent's last turn in it.

    Args:
        actions: [T, rows, …] as sampled; None if the policy is only over messages.
        rewards: [T, rows], from each tick to the next or to the end of its episode; any value without experience.
        terminated: [T, rows] bool: the episode terminated before the next tick; for the last tick, at its own step.
        truncated: [T, rows] bool: the episode was truncated, at the same times.
        experience: [T, rows] bool: False at reset steps of `NEXT_STEP` environments, and for an agent that is not present.
        known_length: Whether the environment declares the length of its episodes.
        final_values: [T, rows], of the final observations of truncated episodes; any value elsewhere. None: none is known.
        final_known: [T, rows] bool: where they are known.
        waiting: [T, rows] bool: where it is not the agent's turn; None: nowhere.
    """
    terminated, truncated = terminated & experience, truncated & experience & ~terminated
    left = experience[:-1] & ~experience[1:] & ~truncated[:-1]
    terminated = torch.cat([terminated[:-1] | left, terminated[-1:]])
    bootstrapped = torch.zeros_like(truncated) if final_known is None else truncated & final_known
    rewards = rewards.masked_fill(~experience, 0.0)
    last = torch.zeros_like(terminated)
    last[-1] = True
    if waiting is not None:
        waiting = waiting & experience
        masks = [terminated, truncated, bootstrapped]
        rewards, final_values, *masks = _to_turns(waiting, rewards, final_values, *masks)
        terminated, truncated, bootstrapped = masks
        last = ~waiting & ((~waiting).flip(0).cumsum(0).flip(0) == 1)
    if known_length:
        last = last & ~(terminated | bootstrapped)
    unseen = ~experience | (truncated & ~bootstrapped) | last
    unseen = unseen if waiting is None else unseen | waiting
    return Trajectory(actions, rewards, terminated, truncated, unseen, bootstrapped, final_values, waiting)


def _to_turns(
    waiting: Tensor,
    rewards: Tensor,
    final: Tensor | None,
    terminated: Tensor,
    truncated: Tensor,
    bootstrapped: Tensor,
) -> tuple[Any, ...]:
    """Return rewards, final values and ends, [T, rows] each, with those of waiting ticks moved to the turns before them."""
    rewards, final = rewards.clone(), None if final is None else final.clone()
    terminated, truncated, bootstrapped = terminated.clone(), truncated.clone(), bootstrapped.clone()
    for t in reversed(range(len(rewards) - 1)):
        goes_on = waiting[t + 1] & ~(terminated[t] | truncated[t])
        rewards[t] += rewards[t + 1].where(goes_on, torch.zeros_like(rewards[t]))
        if final is not None:
            final[t] = final[t + 1].where(goes_on, final[t])
        for ends in (terminated, truncated, bootstrapped):
            ends[t] |= ends[t + 1] & goes_on
    rewards = rewards.masked_fill(waiting, 0.0)
    return rewards, final, terminated, truncated, bootstrapped


@dataclass(frozen=True, slots=True, eq=False)
class Advantages:
    """Constants of a window that its losses use; [T, rows] each. The first pass computes them for all passes."""

    advantages: Tensor
    """Normalised advantages; zero where not valid."""
    returns: Tensor
    """Discounted returns, not normalised."""
    valid: Tensor
    """bool: the ticks that are trained on."""
    targets: Tensor
    """Targets of the values: the returns, normalised if the objective says so."""
    moments: Tensor | None = None
    """[N, 3], over all rows: number of valid returns of each member, their mean and variance; None: not normalised."""

    def weighted(self, member_count: int = 1) -> Tensor:
        """Return the advantages weighted for losses: a member's sum, divided by its B, is a mean over its valid ticks."""
        return self.advantages * MemberMeans(self.valid, member_count).shares(self.advantages.dtype)


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
    moved: Moved | None = None
    """Of `ppo`: how far the policy is from itself, which is the metric where no further pass has moved it."""


@dataclass(frozen=True, slots=True, eq=False)
class PassConstants:
    """Constants of a further pass over some rows of a window, [T, rows] each; of P passes over as many rows, [P, T, rows]."""

    actions: Tensor | None
    """[T, rows, …]: sampled actions; None if only messages are."""
    log_prob: Tensor | None
    """Log-probabilities of the first pass; None: they are not needed."""
    valid: Tensor
    """bool: the ticks that are trained on."""
    invalid: Tensor
    """bool: the others."""
    targets: Tensor
    """Targets of the values."""
    cost: Tensor
    """What is learned in units of a choice's probability ratio: minus the advantages, times what a tick counts."""
    entropy: Tensor
    """The same, of its entropy."""
    error: Tensor
    """The same, of half the squared error of its value."""

    @classmethod
    def of(
        cls,
        actions: Tensor | None,
        log_prob: Tensor | None,
        advantages: Advantages,
        weight: PerMember,
        member_count: int,
        factors: tuple[PerMember, PerMember],
    ) -> PassConstants:
        """Return the constants of passes over all rows of `advantages`.

        Args:
            actions: See the attribute.
            log_prob: See the attribute.
            advantages: Of the rows.
            weight: Of what a member learns, a weighted sum of the members' means over valid ticks.
            member_count: N.
            factors: `PolicyObjective.slope_factors`.
        """
        valid, means = advantages.valid, MemberMeans(advantages.valid, member_count)
        weights = means.weights(advantages.advantages.dtype)
        share = scaled(weights, weight / means.batch, valid.dim() - 1)
        entropy, error = (scaled(share, factor, valid.dim() - 1) for factor in factors)
        cost = advantages.advantages * -share
        return cls(actions, log_prob, valid, ~valid, advantages.targets, cost, entropy, error)

    @classmethod
    def of_parts(
        cls,
        actions: Tensor | None,
        log_prob: Tensor | None,
        advantages: Advantages,
        weight: PerMember,
        member_count: int,
        factors: tuple[PerMember, PerMember],
        parts: Sequence[Tensor],
    ) -> list[PassConstants]:
        """Return the constants of passes over some rows each, as many of each member; those of as many rows are made at once."""
        places: dict[int, list[int]] = {}
        for place, part in enumerate(parts):
            places.setdefault(len(part), []).append(place)
        found: dict[int, PassConstants] = {}
        for own in places.values():
            rows = torch.stack([parts[place] for place in own])
            of = partial(_in_parts, rows=rows)
            some = Advantages(
                *map(of, (advantages.advantages, advantages.returns, advantages.valid, advantages.targets))
            )
            taken, then = (None if values is None else of(values) for values in (actions, log_prob))
            constants = cls.of(taken, then, some, weight, member_count, factors)
            found |= zip(own, constants._apart(), strict=True)
        return [found[place] for place in range(len(parts))]

    def _apart(self) -> list[PassConstants]:
        each = (getattr(self, own.name) for own in fields(self))
        columns = [[None] * len(self.valid) if values is None else values.unbind() for values in each]
        return [PassConstants(*own) for own in zip(*columns, strict=True)]


def _in_parts(values: Tensor, rows: Tensor) -> Tensor:
    """[T, all rows, …] at the rows of P parts, [P, n], as [P, T, n, …]."""
    some = values.index_select(1, rows.flatten())
    return some.view(len(values), *rows.shape, *values.shape[2:]).transpose(0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """How far a policy is from that of the first pass, over the rows of a later one."""

    change: Tensor
    """[T, rows], a constant: the change of the actions' log-probabilities, zero where not valid."""
    clip: Any
    """Largest deviation of the probability ratio from 1, of all rows or [rows]."""
    valid: Tensor
    """[T, rows] bool: the ticks that are trained on."""
    member_count: int
    """N."""

    @staticmethod
    def metrics(passes: Sequence[Moved]) -> dict[str, Tensor]:
        """Return `approx_kl` and `clip_fraction` of each member, [N], means over passes; passes of as many rows are computed as one."""
        each: dict[str, list[Tensor]] = {"approx_kl": [], "clip_fraction": []}
        by_rows: dict[int, list[Moved]] = {}
        for moved in passes:
            by_rows.setdefault(moved.change.shape[1], []).append(moved)
        for own in by_rows.values():
            change, valid = (
                torch.stack([*values])
                for values in zip(*((moved.change, moved.valid) for moved in own), strict=True)
            )
            means, beyond = MemberMeans(valid, own[0].member_count), change.exp() - 1
            # Schulman 2020, "Approximating KL divergence"
            each["approx_kl"].append(means.of_zeroed(beyond - change))
            each["clip_fraction"].append(means.of_zeroed((beyond.abs() > own[0].clip).to(change.dtype)))
        return {name: torch.cat(found).mean(0) for name, found in each.items()}


def gae(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    unseen: Tensor,
    discount: PerMember,
    trace: PerMember,
    *,
    bootstrapped: Tensor | None = None,
    final_values: Tensor | None = None,
    waiting: Tensor | None = None,
) -> Tensor:
    """Return generalised advantages (Schulman et al. 2016, eq. 16), a constant [ticks, rows].

    With d_t = r_t + discount V_(t+1) - V_t, the advantage is A_t = d_t + discount trace A_(t+1); nothing follows a
    terminated tick. After a truncation V_(t+1) is the value of the final observation, and A_(t+1) is zero. At an unseen tick
    the advantage is zero: its value replaces all rewards that follow the previous tick. A waiting tick is passed over.

    Args:
        rewards: [ticks, rows].
        values: [ticks, rows], value of the observation at each tick.
        terminated: [ticks, rows] bool.
        unseen: [ticks, rows] bool; the last tick is unseen, terminated or bootstrapped.
        discount: Discount factor per tick, of all rows or [rows].
        trace: The lambda of the sum over n-step advantages: 0: the one-step advantage; 1: the full return. Shape: the same.
        bootstrapped: [ticks, rows] bool: truncated with a known value of the final observation; None: nowhere.
        final_values: [ticks, rows]: these values; None: there are none.
        waiting: [ticks, rows] bool, all unseen: it was not the agent's turn; None: nowhere.
    """
    values = constant(values)
    nothing = torch.zeros_like(values[0])
    following = torch.cat([values[1:], nothing.unsqueeze(0)])
    if waiting is not None:
        for t in reversed(range(len(values) - 1)):
            following[t] = following[t + 1].where(waiting[t + 1], following[t])
    following, ends = following.masked_fill(terminated, 0.0), terminated
    if bootstrapped is not None and final_values is not None:
        following, ends = torch.where(bootstrapped, final_values, following), ends | bootstrapped
    errors, weight = rewards + discount * following - values, discount * trace
    weights = (~(ends | unseen)).to(values.dtype) * weight
    errors_at, weights_at = errors.masked_fill(unseen, 0.0).unbind(), weights.unbind()
    advantage, found = nothing, []
    for t in reversed(range(len(rewards))):
        later, advantage = advantage, errors_at[t] + weights_at[t] * advantage
        found.append(advantage)
        if waiting is not None:
            advantage = torch.where(waiting[t], later, advantage)
    return torch.stack(found[::-1])


def _monte_carlo(trajectory: Trajectory, discount: PerMember) -> tuple[Tensor, Tensor]:
    """Return the returns up to each tick's end of episode, and where that end is in the window, [T, rows] each.

    A truncation is such an end too: there is no value to stand for what follows it.
    """
    ends = trajectory.terminated | trajectory.truncated
    seen = ends | ~trajectory.unseen  # also the last tick of a window, where its episode ends with it
    following = torch.zeros_like(trajectory.rewards[0])
    complete, returns, valid = torch.zeros_like(ends[0]), [], []
    for t in reversed(range(len(ends))):
        later = complete, following
        complete = seen[t] & (ends[t] | complete)
        sums = trajectory.rewards[t] + discount * following.where(~ends[t], torch.zeros_like(following))
        following = sums.where(complete, torch.zeros_like(sums))
        returns.append(following)
        valid.append(complete)
        if trajectory.waiting is not None:
            waiting = trajectory.waiting[t]
            valid[-1] = complete & ~waiting
            complete, following = (
                torch.where(waiting, *pair) for pair in zip(later, (complete, following), strict=True)
            )
    return torch.stack(returns[::-1]), torch.stack(valid[::-1])


def running_returns(statistics: Tensor, moments: Tensor) -> Tensor:
    """Return the running statistics of returns after a window: exponential moving averages over windows.

    Args:
        statistics: Statistics before the window, [N, 3]: the weight of all windows so far (0 … 1), mean, variance.
        moments: The window's returns, [N, 3]: number, mean, variance. A member without returns keeps its statistics.
    """
    weight, mean, variance = statistics.unbind(-1)
    count, window_mean, window_variance = moments.unbind(-1)
    after = weight + WINDOW_WEIGHT * (1 - weight)
    share = WINDOW_WEIGHT / after
    change = window_mean - mean
    spread = (1 - share) * (variance + share * change.square()) + share * window_variance
    found = torch.stack([after, mean + share * change, spread], -1)
    return torch.where((count > 0).unsqueeze(-1), found, statistics)


def _mean_and_deviation(statistics: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of returns, [N] each; 0 and 1 before the first window."""
    weight, mean, variance = statistics.unbind(-1)
    return mean, torch.where(weight > 0, (variance + 1e-8).sqrt(), torch.ones_like(variance))


class MemberMeans:
    """Means per member over the valid ticks and environments of a window.

    Args:
        valid: [T, rows] bool, or [P, T, rows] of several passes, whose means are [P, N].
        member_count: N.
    """

    def __init__(self, valid: Tensor, member_count: int) -> None:
        self.valid, self.member_count = valid, member_count
        self.batch = valid.shape[-1] // member_count
        self.count = self._sum(valid)

    def _sum(self, values: Tensor) -> Tensor:
        return values.reshape(*values.shape[:-1], self.member_count, self.batch).sum((-3, -1))

    def of(self, values: Tensor, less: int = 0) -> Tensor:
        """[N]: the sum of values [T, rows] over each member's valid samples by their number less `less`."""
        return self.of_zeroed(values.where(self.valid, torch.zeros_like(values)), less)

    def of_zeroed(self, values: Tensor, less: int = 0) -> Tensor:
        """[N]: the same, of values that are zero elsewhere."""
        return self._sum(values) / (self.count - less if less else self.count)

    def moments(self, values: Tensor) -> Tensor:
        """[N, 3]: how many valid samples each member has, their mean and variance."""
        mean = self.of(values)
        return torch.stack(
            [self.count.to(mean.dtype), mean, self.of((values - self.to_rows(mean)).square())], -1
        )

    def vary(self, returns: Tensor, advantages: Tensor) -> Tensor:
        """[N] bool: whether the returns, sums of advantages and values, differ by more than their rounding."""
        rounding = 4 * torch.finfo(returns.dtype).eps
        size = self.of(returns.square()) + self.of(advantages.square())
        return self.moments(returns)[:, 2] > rounding**2 * size

    def shares(self, dtype: torch.dtype) -> Tensor:
        """[rows]: B by the number of the member's valid samples."""
        return self.to_rows(self.batch / self.count.to(dtype).clamp(min=1))

    def weights(self, dtype: torch.dtype) -> Tensor:
        """[T, rows]: the shares of valid samples, zero elsewhere."""
        return self.valid * self.shares(dtype).unsqueeze(-2)

    def to_rows(self, by_member: Tensor) -> Tensor:
        """Broadcast values per member, [N], to rows."""
        if self.member_count == 1:
            return by_member.expand(*by_member.shape[:-1], self.batch)
        return by_member.repeat_interleave(self.batch, -1)


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
    needs_value: ClassVar[bool] = False
    """Whether it learns values and uses them."""
    has_target: ClassVar[bool] = False
    """Whether a target network estimates its values."""
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
        """Whether it learns values and uses them."""
        return self.needs_value

    @property
    @abstractmethod
    def logged(self) -> tuple[str, ...]:
        """Names of the metrics of its windows, `metrics` of `PolicyLosses`."""

    @property
    @abstractmethod
    def slope_factors(self) -> tuple[PerMember, PerMember]:
        """What a tick's entropy, and half the squared error of its value, count in its loss."""

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
            trajectory: Trajectory of the window.
            values: [T, rows], treated as constants; None where there are none.
            member_count: N, side by side in the rows.
            statistics: Running statistics of returns before the window, [N, 3]; None: returns are not normalised.
        """

    @abstractmethod
    def losses(
        self,
        outputs: Tensor | None,
        values: Tensor | None,
        actions: Tensor | None,
        advantages: Advantages,
        *,
        member_count: int = 1,
        messages: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> PolicyLosses:
        """Return the losses of the first pass over a window.

        Args:
            outputs: [T, rows, parameters] with their graph; None if only messages are sampled.
            values: [T, rows] with their graph; None where there are none.
            actions: [T, rows, …] as sampled; None if only messages are.
            advantages: Advantages of the same rows.
            member_count: N, side by side in the rows.
            messages: Log-probability and entropy, [T, rows] each with their graph, of every sampled message.
        """

    @abstractmethod
    def slopes(
        self,
        outputs: Tensor | None,
        values: Tensor | None,
        constants: PassConstants,
        *,
        member_count: int = 1,
        messages: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> tuple[Slopes, Moved | None]:
        """Return the slopes of what a further pass learns, and how far the policy has moved, where that matters.

        Arguments: those of the rows of the pass, otherwise see `losses`.
        """


@dataclass(frozen=True)
class PolicyGradient(PolicyObjective):
    """Policy gradients: the losses of one pass are

        policy + value (V - return)^2 - entropy H(pi),

    where the loss `policy` of actions is -log pi(a) A, unless the kind has another (`_of_actions`).
    """

    trace: PerMember = 0.95
    """The lambda of generalised advantages, where there are values."""
    entropy: PerMember = 0.01
    """Weight of the entropy bonus."""
    value: PerMember = 0.5
    """Weight of the value loss, where there are values."""
    normalise: str = "none"
    """`returns`: values predict returns normalised by their running mean and deviation."""

    @property
    def key(self) -> Hashable:
        return type(self), self.distribution, self.epochs, self.minibatches, self.normalise

    @property
    def logged(self) -> tuple[str, ...]:
        return ("policy_loss", "entropy", *(("value_loss", "explained_variance") if self.has_values else ()))

    @property
    def slope_factors(self) -> tuple[PerMember, PerMember]:
        return -self.entropy, 2 * self.value

    def advantages(
        self,
        trajectory: Trajectory,
        values: Tensor | None = None,
        *,
        member_count: int = 1,
        statistics: Tensor | None = None,
    ) -> Advantages:
        """Return advantages, normalised per member over its valid samples if there are 32 or more.

        A member's normalised advantages are zero where its returns are all the same: no action was better than another. Without
        values the baseline is the mean return.

        Raises:
            ValueError: Values are missing, or are passed to an objective without values.
        """
        if (values is not None) is not self.has_values:
            raise ValueError(f"{type(self).__name__} {'needs' if self.has_values else 'has no'} values")
        if values is None:
            returns, valid = _monte_carlo(trajectory, to_rows(self.discount, trajectory.rewards, 1))
            means = MemberMeans(valid, member_count)
            advantages = returns - means.to_rows(means.of(returns))
        else:
            valid = ~trajectory.unseen
            means = MemberMeans(valid, member_count)
            discount, trace = (to_rows(own, values, 1) for own in (self.discount, self.trace))
            advantages, returns = advantages_and_returns(
                trajectory, values, statistics, discount, trace, means
            )
        varied = means.to_rows(means.vary(returns, advantages))
        targets, moments = returns, None
        if statistics is not None:
            targets, deviation, moments = normalised_returns(returns, statistics, means)
            advantages = advantages / deviation
        shifted = advantages - means.to_rows(means.of(advantages))
        deviation = means.to_rows(means.of(shifted.square(), less=1).sqrt())
        enough = means.to_rows(means.count >= NORMALISED_FROM)
        # Divided by their own deviation, the errors of values, or rounding, would look like good and bad actions.
        normalised = (shifted / (deviation + 1e-8)).where(varied, torch.zeros_like(shifted))
        advantages = torch.where(enough, normalised, advantages)
        advantages = advantages.where(valid, torch.zeros_like(advantages))
        return Advantages(advantages, returns, valid, targets, moments)

    def losses(
        self,
        outputs: Tensor | None,
        values: Tensor | None,
        actions: Tensor | None,
        advantages: Advantages,
        *,
        member_count: int = 1,
        messages: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> PolicyLosses:
        log_prob, entropy = self._of_choices(outputs, actions, messages)
        means = MemberMeans(advantages.valid, member_count)
        policy, moved = self._of_actions(log_prob, advantages, member_count)
        total = policy - scaled(entropy, self.entropy, 1)
        averaged = {"policy_loss": policy, "entropy": entropy}
        if values is not None:
            averaged["value_loss"] = error = mse_loss(values, advantages.targets, reduction="none")
            total = total + scaled(error, self.value, 1)
        metrics = {name: means.of(constant(each)) for name, each in averaged.items()}
        if values is not None:
            metrics["explained_variance"] = _explained(constant(values), advantages.targets, means)
        return PolicyLosses(total * means.weights(total.dtype), constant(log_prob), metrics, moved)

    def slopes(
        self,
        outputs: Tensor | None,
        values: Tensor | None,
        constants: PassConstants,
        *,
        member_count: int = 1,
        messages: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> tuple[Slopes, Moved | None]:
        log_prob, entropy = self._of_choices(outputs, constants.actions, messages)
        slope, moved = self._slope_of_actions(constant(log_prob), constants, member_count)
        slopes = [(log_prob, slope), (entropy, constants.entropy)]
        if values is not None:
            slopes.append((values, (constant(values) - constants.targets) * constants.error))
        return slopes, moved

    def _of_choices(
        self, outputs: Tensor | None, actions: Tensor | None, messages: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of all that was sampled, [T, rows] each with their graph. For the arguments see `losses`."""
        parts = list(messages)
        if self.distribution is not None and outputs is not None and actions is not None:
            parts.insert(0, self.distribution.log_prob_and_entropy(outputs, actions))
        if len(parts) == 1:
            return parts[0]
        log_prob, entropy = (torch.stack(each).sum(0) for each in zip(*parts, strict=True))
        return log_prob, entropy

    def _of_actions(
        self, log_prob: Tensor, advantages: Advantages, member_count: int
    ) -> tuple[Tensor, Moved | None]:
        """Return the loss of the actions in the first pass, [T, rows], and how far the policy has moved, where that matters.

        Args:
            log_prob: [T, rows] with its graph.
            advantages: Of the same rows.
            member_count: N.
        """
        return -log_prob * advantages.advantages, None

    def _slope_of_actions(
        self, log_prob: Tensor, constants: PassConstants, member_count: int
    ) -> tuple[Tensor, Moved | None]:
        """Return the slope of the loss by the log-probabilities of the actions, [T, rows] constants, and how far the policy has moved."""
        return constants.cost, None


def advantages_and_returns(
    trajectory: Trajectory,
    values: Tensor,
    statistics: Tensor | None,
    discount: PerMember,
    trace: PerMember,
    means: MemberMeans,
) -> tuple[Tensor, Tensor]:
    """Return generalised advantages and returns, not normalised, [T, rows] each; constants.

    Args:
        trajectory: Trajectory of the window.
        values: [T, rows], as the network has them.
        statistics: [N, 3], in whose units values are; None: they are in units of the rewards.
        discount: Discount factor per tick, of all rows or [rows].
        trace: The lambda. Shape: the same.
        means: Over the valid ticks.
    """
    final = trajectory.final_values
    if statistics is not None:
        mean, deviation = map(means.to_rows, _mean_and_deviation(statistics))
        values = mean + deviation * values
        final = None if final is None else mean + deviation * final
    advantages = trajectory.advantages(values, final, discount, trace)
    return advantages, advantages + constant(values)


def normalised_returns(
    returns: Tensor, statistics: Tensor, means: MemberMeans
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a window's returns in units of the running statistics that have counted them, [T, rows].

    The deviation is returned beside them, [rows], and the window's moments, [N, 3].
    """
    moments = means.moments(returns)
    return *in_units(returns, running_returns(statistics, moments), means), moments


def in_units(returns: Tensor, statistics: Tensor, means: MemberMeans) -> tuple[Tensor, Tensor]:
    """Return returns in units of running statistics, [N, 3], and the deviation of these, [rows]."""
    mean, deviation = map(means.to_rows, _mean_and_deviation(statistics))
    return (returns - mean) / deviation, deviation


def _explained(values: Tensor, returns: Tensor, means: MemberMeans) -> Tensor:
    """The share of the returns' variance that the values explain, [N]; NaN where there is none."""

    def variance(of: Tensor) -> Tensor:
        return means.of((of - means.to_rows(means.of(of))).square())

    total = variance(returns)
    return torch.where(total > 0, 1 - variance(returns - values) / total, torch.full_like(total, torch.nan))


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
        """Passes over a window."""
        return self.epochs

    def updates(self, batch: int) -> int:
        """Return the optimiser steps of a window: one, and one for each minibatch of the further passes."""
        return 1 + (self.epochs - 1) * minibatches_in(batch, self.minibatches)

    def unused(self) -> Iterator[tuple[str, str]]:
        """Yield keys of passes after the first, where there is one pass."""
        if self.epochs == 1 and self.minibatches is not None:
            yield "minibatches", "where epochs is 1: the first pass is over all environments"


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


@extensions.objective("reinforce")
class Reinforce(PolicyGradient):
    """The gradient of log-probabilities, weighted by returns (Williams 1992)."""

    needs_an_end: ClassVar[bool] = True
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
    """Largest deviation of the probability ratio from 1."""

    needs_value: ClassVar[bool] = True
    equal_in_group: ClassVar[tuple[str, ...]] = ("epochs", "minibatches")

    class Options(A2c.Options, PassesOptions):
        """Keys of PPO.

        Attributes:
            clip: Largest deviation of the probability ratio from 1.
        """

        clip: Annotated[float, Field(gt=0)] = 0.2

        def unused(self) -> Iterator[tuple[str, str]]:
            """Yield keys of passes after the first, in which alone a ratio differs from 1, where there is one pass."""
            yield from super().unused()
            if self.epochs == 1 and "clip" in self.model_fields_set:
                yield "clip", "where epochs is 1: in the first pass all ratios are 1"

    @classmethod
    def in_batch(cls, distribution: Distribution | None, options: Mapping[str, Any], batch: int) -> Self:
        parts = minibatches_in(batch, options["minibatches"])
        return cls(distribution, **{**options, "minibatches": parts})

    @property
    def logged(self) -> tuple[str, ...]:
        return (*super().logged, "approx_kl", "clip_fraction")

    def _of_actions(
        self, log_prob: Tensor, advantages: Advantages, member_count: int
    ) -> tuple[Tensor, Moved | None]:
        # All ratios are 1, and none is clipped.
        change = (log_prob - constant(log_prob)).where(advantages.valid, 0.0)
        moved = Moved(constant(change), to_rows(self.clip, change, 1), advantages.valid, member_count)
        return change.exp() * -advantages.advantages, moved

    def _slope_of_actions(
        self, log_prob: Tensor, constants: PassConstants, member_count: int
    ) -> tuple[Tensor, Moved | None]:
        assert constants.log_prob is not None
        # Where nothing is learned a ratio might be infinite.
        change = (log_prob - constants.log_prob).masked_fill_(constants.invalid, 0.0)
        ratio, clip = change.exp(), to_rows(self.clip, change, 1)
        free, clipped = ratio * constants.cost, ratio.clamp(1 - clip, 1 + clip) * constants.cost
        # Where both are equal the ratio is not clipped.
        return free.masked_fill_(free < clipped, 0.0), Moved(change, clip, constants.valid, member_count)
