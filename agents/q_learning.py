"""Q-learning: the value of each action, learned from the rewards that follow the actions taken.

The loss is that of a window of ticks, on-policy: so messages that an agent reads are always of present senders, and their
gradients are true ones. A window is learned from in several passes, against the returns of the first; an agent that reads no
messages can learn from earlier windows instead (`replay`).

Sources: Mnih et al. 2015, "Human-level control through deep reinforcement learning", the target network; van Hasselt et al.
2016, "Deep reinforcement learning with double Q-learning", eq. 4; Foerster et al. 2016, "Learning to communicate with deep
multi-agent reinforcement learning", on whole episodes, with gradients of messages; Gallici et al. 2025, "Simplifying deep
temporal difference learning", passes over windows of many environments and the lambda-return (Peng and Williams 1994).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from antiphon.agents.advantages import (
    Advantages,
    MemberMeans,
    Trajectory,
    advantages_over,
)
from antiphon.agents.distributions import Categorical, Distribution, EpsilonGreedy, legal
from antiphon.agents.network import Tensors
from antiphon.agents.policy_objectives import (
    PassConstants,
    PassesOptions,
    PolicyChange,
    PolicyLosses,
    PolicyObjective,
    PolicyPorts,
)
from antiphon.base import extensions
from antiphon.base.errors import ScenarioError
from antiphon.base.spec import Count
from antiphon.comms.backward_requests import Slopes, constant
from antiphon.nets.per_member import PerMember


@extensions.objective("q")
@dataclass(frozen=True)
class QLearning(PolicyObjective):
    """Double Q-learning with a target network over a window (van Hasselt et al. 2016).

    The value of a tick is V = Q_target(argmax Q), that of the target network for the agent's best choice. The loss is
    (Q(a) - return)^2, where the return is the lambda-return of rewards and values.
    """

    distribution: Categorical
    trace: PerMember = 0.65
    epsilon: PerMember = 0.05
    explore: int = 0
    period: int = 1
    normalise: str = "none"

    needs_value: ClassVar[bool] = True
    equal_in_group: ClassVar[tuple[str, ...]] = ("epochs", "minibatches")
    has_target: ClassVar[bool] = True
    refuses: ClassVar[frozenset[str]] = frozenset({"target", "read", "reduction", "critic"})

    class Options(PassesOptions):
        """Keys of Q-learning.

        Attributes:
            discount: Discount factor per tick of the agent.
            trace: The lambda of the returns: 0: one reward and the next value; 1: all rewards up to the end of the window.
            epsilon: Probability of a choice at random, after the first `explore` steps.
            explore: Steps of the run in which this probability falls linearly from 1.
            period: Optimiser steps of the agent from one copy of its parameters to the target network to the next, made at the
                end of a window.
            normalise: `returns`: values predict returns normalised by their running mean and deviation.
            replay: Newest windows that passes after the first draw from; 1: they repeat the newest.
        """

        discount: Annotated[float, Field(ge=0, le=1)] = 0.99
        trace: Annotated[float, Field(ge=0, le=1)] = 0.65
        epsilon: Annotated[float, Field(ge=0, le=1)] = 0.05
        explore: Annotated[int, Field(ge=0)] = 500
        period: Count = 1
        epochs: Count = 10
        normalise: Literal["returns", "none"] = "returns"
        replay: Count = 1

    @classmethod
    def in_batch(cls, distribution: Distribution | None, options: Mapping[str, Any], batch: int) -> Self:
        if distribution is None:
            raise ScenarioError("q learns values of actions, and this agent has none; give it `acts: true`")
        if not isinstance(distribution, Categorical):
            raise ScenarioError(
                "q learns a value for each choice, and these actions are no Discrete; use ppo, or name a part of a Dict"
            )
        return super().in_batch(distribution, options, batch)

    def at(self, step: int | None) -> EpsilonGreedy:
        return EpsilonGreedy(self.distribution.n, self._epsilon(step))

    def _epsilon(self, step: int | None) -> PerMember:
        if step is None or step >= self.explore:
            return self.epsilon
        return self.epsilon + (1 - self.epsilon) * (1 - step / self.explore)

    def metrics_at(self, step: int) -> dict[str, PerMember]:
        return {"epsilon": self._epsilon(step)}

    @property
    def logged(self) -> tuple[str, ...]:
        return "td_error", "q_value"

    @staticmethod
    def value(outputs: Tensor, target: Tensor) -> Tensor:
        """Return the value of a tick, [rows]: of the target network for the best choice; 0, in its unit, where none is legal.

        Args:
            outputs: [rows, n], values of the agent's own network.
            target: [rows, n], of the target network.
        """
        value = target.gather(-1, outputs.argmax(-1, keepdim=True)).squeeze(-1)
        return value.where(legal(value), torch.zeros_like(value))

    def advantages(
        self,
        trajectory: Trajectory,
        values: Tensor | None = None,
        *,
        member_count: int = 1,
        statistics: Tensor | None = None,
        counted: bool = True,
    ) -> Advantages:
        assert values is not None
        means = MemberMeans(~trajectory.unseen, member_count)
        return advantages_over(
            trajectory, values, statistics, self.discount, self.trace, means, counted=counted
        )

    def losses(self, ports: PolicyPorts, actions: Tensor | None, advantages: Advantages) -> PolicyLosses:
        chosen_values = _chosen(ports, actions)
        error, means = chosen_values - advantages.targets, MemberMeans(advantages.valid, ports.member_count)
        metrics = {"td_error": means.of(constant(error).abs()), "q_value": means.of(constant(chosen_values))}
        losses = (error.square() * means.shares(error.dtype)).where(advantages.valid, torch.zeros_like(error))
        return PolicyLosses(losses, None, metrics)

    def slopes(self, ports: PolicyPorts, constants: PassConstants) -> tuple[Slopes, PolicyChange | None]:
        chosen_values = _chosen(ports, constants.actions)
        slope = (constant(chosen_values) - constants.targets) * (2 * constants.share)
        return [(chosen_values, slope.where(constants.valid, 0.0))], None


def _chosen(ports: PolicyPorts, actions: Tensor | None) -> Tensor:
    assert ports.outputs is not None
    assert actions is not None
    return ports.outputs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


@dataclass(slots=True)
class ReplayBuffer:
    """The newest N windows of an agent's rows, from which the passes after the first draw (semantics 42a).

    A window takes the place of the oldest one. Inputs are kept as the network read them. So an agent with a buffer reads no
    message and has no state: both would come from parameters of earlier. Values are those of the present parameters, and
    returns are made of them anew at every draw.
    """

    windows: dict[str, Tensor]
    """Tensors of the windows by name, [rows, N, T, …]."""
    written: Tensor
    """[rows] int64: windows of each row so far."""

    @classmethod
    def like(cls, window: Tensors, size: int) -> ReplayBuffer:
        """Return an empty buffer of `size` windows of the shape of one, [rows, T, …] by name: rows without any draw one unseen."""
        windows = {
            name: values.new_zeros(len(values), size, *values.shape[1:]) for name, values in window.items()
        }
        windows["unseen"].fill_(True)
        return cls(windows, window["unseen"].new_zeros(len(window["unseen"]), dtype=torch.int64))

    def add(self, window: Tensors, is_taken: Tensor) -> None:
        """Add a window in some rows, [rows] bool; in place: whoever keeps the buffer, copies it."""
        rows = torch.arange(len(is_taken), device=is_taken.device)
        for name, values in self.windows.items():
            index = self.written % values.shape[1]
            taken = is_taken.view(-1, *[1] * (window[name].dim() - 1))
            values.index_put_((rows, index), torch.where(taken, window[name], values[rows, index]))
        self.written += is_taken

    def drawn(self, rows: Tensor, numbers: Tensor) -> Tensors:
        """Return a window of each of some rows, [T, len(rows), …] by name.

        Args:
            numbers: Of all rows, uniform in [0, 1): which of its windows is drawn.
        """
        drawn = {}
        for name, values in self.windows.items():
            index = (numbers * self.written.clamp(max=values.shape[1])).long()
            drawn[name] = values[rows, index[rows]].transpose(0, 1)
        return drawn
