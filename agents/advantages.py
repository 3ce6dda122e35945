"""Advantages and returns of a window of ticks, from the rewards that followed its actions.

All are pure functions of tensors. Shapes: T ticks of the window, rows = members x environments (`member_count` agents of one
kind side by side, [N * B]; 1 for a single agent).

Source: generalised advantage estimation, Schulman et al. 2016, "High-dimensional continuous control using generalized
advantage estimation", eq. 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.nets.per_member import PerMember, to_rows

RETURNS = "value.returns"
"""Name of the running statistics of a policy's returns in its learner, [3]: weight, mean and variance."""
WINDOW_WEIGHT = 0.01


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
        """Return generalised advantages (Schulman et al. 2016, eq. 16), a constant [T, rows].

        With d_t = r_t + discount V_(t+1) - V_t, the advantage is A_t = d_t + discount trace A_(t+1); nothing follows a
        terminated tick. After a truncation V_(t+1) is the value of the final observation, and A_(t+1) is zero. At an unseen tick
        the advantage is zero: its value replaces all rewards that follow the previous tick. A waiting tick is passed over.

        Args:
            values: [T, rows], value of the observation at each tick.
            final_values: [T, rows], of the final observations, where `bootstrapped`; None: there are none.
            trace: The lambda of the sum over n-step advantages: 0: the one-step advantage; 1: the full return. Of all rows or [rows],
                as the discount.
        """
        terminated, bootstrapped = self.terminated, self.bootstrapped
        unseen, waiting = self.unseen, self.waiting
        values = constant(values)
        nothing = torch.zeros_like(values[0])
        following = torch.cat([values[1:], nothing.unsqueeze(0)])
        if waiting is not None:
            for t in reversed(range(len(values) - 1)):
                following[t] = following[t + 1].where(waiting[t + 1], following[t])
        following, ends = following.masked_fill(terminated, 0.0), terminated
        if final_values is not None:
            following, ends = torch.where(bootstrapped, final_values, following), ends | bootstrapped
        errors, weight = self.rewards + discount * following - values, discount * trace
        weights = (~(ends | unseen)).to(values.dtype) * weight
        errors_at, weights_at = errors.masked_fill(unseen, 0.0).unbind(), weights.unbind()
        advantage, advantages = nothing, []
        for t in reversed(range(len(values))):
            later, advantage = advantage, errors_at[t] + weights_at[t] * advantage
            advantages.append(advantage)
            if waiting is not None:
                advantage = torch.where(waiting[t], later, advantage)
        return torch.stack(advantages[::-1])


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
        rewards: Any value without experience.
        terminated: For the last tick, at its own step; so is `truncated`.
        experience: [T, rows] bool: False at reset steps of `NEXT_STEP` environments, and for an agent that is not present.
        known_length: Whether the environment declares the length of its episodes.
        final_values: Any value where they are not known; None: none is.
        final_known: [T, rows] bool.
    """
    terminated, truncated = terminated & experience, truncated & experience & ~terminated
    departed = experience[:-1] & ~experience[1:] & ~truncated[:-1]
    terminated = torch.cat([terminated[:-1] | departed, terminated[-1:]])
    bootstrapped = torch.zeros_like(truncated) if final_known is None else truncated & final_known
    rewards = rewards.masked_fill(~experience, 0.0)
    last = torch.zeros_like(terminated)
    last[-1] = True
    if waiting is not None:
        waiting = waiting & experience
        ends = terminated, truncated, bootstrapped
        rewards, final_values, (terminated, truncated, bootstrapped) = _to_turns(
            waiting, rewards, final_values, ends
        )
        turn = experience & ~waiting
        last = turn & (turn.flip(0).cumsum(0).flip(0) == 1)
    if known_length:
        last = last & ~(terminated | bootstrapped)
    unseen = ~experience | (truncated & ~bootstrapped) | last
    unseen = unseen if waiting is None else unseen | waiting
    return Trajectory(actions, rewards, terminated, truncated, unseen, bootstrapped, final_values, waiting)


def _to_turns(
    waiting: Tensor, rewards: Tensor, final: Tensor | None, ends: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """Move rewards, final values and ends (terminated, truncated, bootstrapped) of waiting ticks to the turns before them."""
    rewards, final, ends = (
        rewards.clone(),
        None if final is None else final.clone(),
        [e.clone() for e in ends],
    )
    for t in reversed(range(len(rewards) - 1)):
        goes_on = waiting[t + 1] & ~(ends[0][t] | ends[1][t])
        rewards[t] += rewards[t + 1].where(goes_on, torch.zeros_like(rewards[t]))
        if final is not None:
            final[t] = final[t + 1].where(goes_on, final[t])
        for end in ends:
            end[t] |= end[t + 1] & goes_on
    return rewards.masked_fill(waiting, 0.0), final, ends


def monte_carlo_returns(trajectory: Trajectory, discount: PerMember) -> tuple[Tensor, Tensor]:
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


class MemberMeans:
    """Means per member over the valid ticks and environments of a window.

    Args:
        valid: [T, rows] bool, or [P, T, rows] of several passes, whose means are [P, N].
    """

    def __init__(self, valid: Tensor, member_count: int) -> None:
        self.valid, self.member_count = valid, member_count
        self.batch = valid.shape[-1] // member_count
        self.count = self._sum(valid)

    def _sum(self, values: Tensor) -> Tensor:
        return values.reshape(*values.shape[:-1], self.member_count, self.batch).sum((-3, -1))

    def of(self, values: Tensor, less: int = 0) -> Tensor:
        """[N]: the sum of values [T, rows] over each member's valid samples by their number less `less`."""
        valid = values.where(self.valid, torch.zeros_like(values))
        return self._sum(valid) / (self.count - less if less else self.count)

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


@dataclass(frozen=True, slots=True, eq=False)
class Advantages:
    """Constants of a window that its losses use; [T, rows] each. The first pass computes them for all passes."""

    advantages: Tensor
    """Normalised by policy gradients; zero where not valid."""
    returns: Tensor
    """Discounted returns, not normalised."""
    valid: Tensor
    """bool: the ticks that are trained on."""
    targets: Tensor
    """Targets of the values: the returns, normalised if the objective says so."""
    deviation: Tensor | float = 1.0
    """[rows]: that by which targets are normalised."""
    moments: Tensor | None = None
    """[N, 3], over all rows: number of valid returns of each member, their mean and variance; None: not normalised."""
    values: Tensor | None = None
    """Values in the unit of the returns; None: there are none."""


def advantages_over(
    trajectory: Trajectory,
    values: Tensor,
    statistics: Tensor | None,
    discount: PerMember,
    trace: PerMember,
    means: MemberMeans,
    *,
    counted: bool = True,
) -> Advantages:
    """Return generalised advantages over values, not normalised.

    Args:
        values: [T, rows], as the network has them.
        statistics: [N, 3], in whose units values are; None: they are in units of the rewards.
        counted: Whether the window's returns are counted in the statistics, in whose units targets are then.
    """
    discount, trace = (to_rows(factor, values, 1) for factor in (discount, trace))
    final = trajectory.final_values
    if statistics is not None:
        mean, deviation = map(means.to_rows, _mean_and_deviation(statistics))
        values = mean + deviation * values
        final = None if final is None else mean + deviation * final
    advantages, values = trajectory.advantages(values, final, discount, trace), constant(values)
    returns = advantages + values
    if statistics is None:
        return Advantages(advantages, returns, means.valid, returns, values=values)
    moments = means.moments(returns) if counted else None
    statistics = statistics if moments is None else running_returns(statistics, moments)
    mean, deviation = map(means.to_rows, _mean_and_deviation(statistics))
    targets = (returns - mean) / deviation
    return Advantages(advantages, returns, means.valid, targets, deviation, moments, values)


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
    updated = torch.stack([after, mean + share * change, spread], -1)
    return torch.where((count > 0).unsqueeze(-1), updated, statistics)


def _mean_and_deviation(statistics: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of returns, [N] each; 0 and 1 before the first window."""
    weight, mean, variance = statistics.unbind(-1)
    return mean, torch.where(weight > 0, (variance + 1e-8).sqrt(), torch.ones_like(variance))
