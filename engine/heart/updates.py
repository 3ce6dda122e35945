"""Updates, which are what a step learns: losses of windows, and gradients of learning groups and of predictors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from antiphon.agents.advantages import Advantages, Trajectory
from antiphon.agents.policy_objectives import PolicyChange, PolicyLosses
from antiphon.comms.examples import Example
from antiphon.engine.heart.agent import Goal
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.window import CountedRead, LearningGroup, Tick, Window
from antiphon.nets.mask import ALL, Mask, Members
from antiphon.nets.per_member import scaled

GroupWindows = list[tuple[LearningGroup, Window]]
"""Windows, each with its learning group."""


class EndedWindows(NamedTuple):
    """The windows that a step learns from or skips: most have just ended; others ended before, and have waited since."""

    to_learn: GroupWindows
    to_skip: GroupWindows
    """Windows not to learn from: no agent has ticked in them, or only given up gradients could have reached them."""


@dataclass(slots=True)
class ReportedLoss:
    """The loss and the score of an agent's objective over the ticks of a window, as they are reported."""

    loss: Tensor
    """[N]: the sum over ticks of the mean over the batch."""
    score: Tensor
    """[N]: the sum of the objective's metric over ticks and environments; of several objectives [N, columns]."""
    target_count: int | Tensor
    """[N], or one number for all: the ticks and environments with a target; with `reduction: mean`, their sites."""
    target_weight: Tensor | None = None
    """[N]: the class weights of these targets, by which the losses of windows are averaged; None: 1 each."""

    def before_scale(self, goal: Goal, batch: int) -> Tensor:
        """Return the loss before `scale`, [N]; times B, divided by `target_count`, it is a mean over the targets."""
        # a mean of one window has its targets, which are all there is to divide by here
        loss = self.loss * self.target_count / batch if goal.mean_over_targets else self.loss
        return scaled(loss, 1 / goal.weight)

    def plus(self, other: ReportedLoss) -> ReportedLoss:
        target_count, weight = self.target_count + other.target_count, self.target_weight
        if weight is not None and other.target_weight is not None:
            weight = weight + other.target_weight
        return ReportedLoss(self.loss + other.loss, self.score + other.score, target_count, weight)

    def select_members(self, indices: list[int] | slice) -> ReportedLoss:
        target_count, weight = self.target_count, self.target_weight
        if isinstance(target_count, Tensor):
            target_count = target_count[indices]
        weight = None if weight is None else weight[indices]
        return ReportedLoss(self.loss[indices], self.score[indices], target_count, weight)


@dataclass(frozen=True, slots=True, eq=False)
class PolicyWindow:
    """A policy's window, with the constants that its first pass has computed and further passes keep."""

    ticks: Sequence[Tick]
    trajectory: Trajectory
    """The actions, and the rewards and ends of episodes that followed."""
    advantages: Advantages
    first_pass_losses: PolicyLosses
    """What the first pass has computed of the objective, with its metrics."""
    policy_changes: list[PolicyChange] = field(default_factory=list)
    """Of `ppo`: how far each further pass found the policy from that of the first."""

    @property
    def metrics(self) -> dict[str, Tensor]:
        """The metrics of the first pass, [N], by name; those of how far the policy changed are the mean over further passes."""
        first = self.first_pass_losses
        changes = self.policy_changes or ([] if first.change is None else [first.change])
        return PolicyChange.metrics(changes) | first.metrics if changes else first.metrics


@dataclass(slots=True)
class WindowLoss:
    """The losses of all objectives over a window, without a graph (`ObjectiveEvaluator.window_loss`)."""

    loss_by_agent: dict[str, Tensor] = field(default_factory=dict)
    """The loss per sample, [rows], summed over ticks, by agent."""
    reported_loss_by_agent: dict[str, ReportedLoss] = field(default_factory=dict)
    policy_windows: dict[str, PolicyWindow] = field(default_factory=dict)
    """By agent that learns from rewards: its ticks, with what the first pass over them has computed."""

    def add(self, agent_name: str, samples: Tensor, reported_loss: ReportedLoss) -> None:
        """Add losses of an agent, [rows] without a graph, and what is reported of them."""
        reported_before = self.reported_loss_by_agent.get(agent_name)
        if reported_before is not None:
            samples = self.loss_by_agent[agent_name] + samples
            reported_loss = reported_before.plus(reported_loss)
        self.reported_loss_by_agent[agent_name] = reported_loss
        self.loss_by_agent[agent_name] = samples


class Credit(NamedTuple):
    gradient: Tensor
    """[rows, size] per sample before `scale`."""
    rows: Mask = ALL
    """The rows of the members that have one."""


@dataclass(slots=True, eq=False)
class Update:
    """What a learning group learns from a window; applied by `Moving.move`."""

    group: LearningGroup
    window: Window
    window_loss: WindowLoss = field(default_factory=WindowLoss)
    gradients_by_learner: dict[str, Sequence[Tensor | None]] = field(default_factory=dict)
    """The gradients of learners that learn from the window, in the order of their trainable parameters: means over the
    agents that share one (`LearningGroup.mean_over_agents`)."""
    gradient_by_read: dict[CountedRead, Tensor] = field(default_factory=dict)
    """The gradients, [rows, size] per sample, by `CountedRead` of the window that its losses depend on, if gradients
    return; until they are booked (`BackwardPass.book`)."""
    newest_injected_by_channel: dict[str, Credit] = field(default_factory=dict)
    """What was injected, before `scale`, into each member's newest message with credit, by channel; for reports."""
    injected_rows: dict[tuple[str, int], Mask] = field(default_factory=dict)
    """By channel and stamp: the rows into which credit was injected with a `scale` that is not 0."""
    agents_with_auxiliary_loss: set[str] = field(default_factory=set)
    moving_members_by_learner: dict[str, Mask[Members]] = field(default_factory=dict)
    """The members that optimisers may move, by learner; of an absent learner, all."""

    def moving(self, learner_name: str) -> Mask[Members]:
        return self.moving_members_by_learner.get(learner_name, ALL)

    def keep_injected(self, channel: Channel, injected: Credit) -> None:
        """Keep what is injected into a message as its channel's newest, for metrics and a run's handles alone.

        A member without credit for the message keeps that of the message before.
        """
        gradient, rows = injected
        before = self.newest_injected_by_channel.get(channel.name)
        if before is not None:
            newer = rows if rows is ALL else channel.layout.rows_of(channel.layout.members_in(rows))
            gradient, rows = newer.where(gradient, before.gradient), rows & newer | before.rows & ~newer
        self.newest_injected_by_channel[channel.name] = Credit(gradient, rows)


@dataclass(slots=True)
class PredictorUpdate:
    """What a synthetic gradient, or a synthetic input, learns at one step."""

    examples: list[Example]
    loss: Tensor
    """Summed over the examples, before the update; [K] of a stack."""
    gradients: Sequence[Tensor | None]
    """The gradients of its parameters; None of a parameter that it does not use. Emptied as the parameters move."""
    prediction: Tensor | None = None
    """The prediction for the newest example before the update, where it is watched."""
    moving_members: Mask[Members] = ALL
    """The predictors of the stack that move: those with an example, whose seeds have not diverged."""
    for_input: bool = False
    """Whether it is the update of a synthetic input; else of a synthetic gradient."""


ByChannel = Sequence[tuple[str, PredictorUpdate]]
"""Updates of synthetic gradients and of synthetic inputs, each with its channel's name."""


@dataclass
class StepReport:
    """What was learned at one step, by stack."""

    updates: list[Update]
    """The updates of windows, in their turns: where windows of a group have waited, the newest comes last."""
    predictor_updates: dict[str, PredictorUpdate]
    """The updates of synthetic gradients, by channel."""
    input_updates: dict[str, PredictorUpdate] = field(default_factory=dict)
    """The updates of synthetic inputs, by channel."""
    skipped_windows: GroupWindows = field(default_factory=list)
    """See `EndedWindows.to_skip`."""
