"""Divergence: numbers that are not finite never reach a parameter (rule 32, divergence).

`DivergenceCheck` checks the gradients of a step before any is applied. `DivergenceRule` decides what follows a
divergence: the run ends, or of several seeds the one that diverged; and it keeps which seeds have stopped.

On a GPU every look at a number stops the stream of work: there the guard (guard.py) takes the place of
`DivergenceCheck`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from antiphon.base.errors import DivergenceError
from antiphon.base.mask import ALL, Mask, Members
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.updates import PredictorUpdate, Update
from antiphon.engine.heart.window import LearningGroup
from antiphon.nets.native.mlp import LazyGradient
from antiphon.nets.trained_parameters import TrainedParameters

_COPIED = 1 << 16
"""Up to so many numbers, all tensors are copied into one for a norm: 0.6 of the time, of two networks of 64 units."""


class Reason(Enum):
    """What of an agent is not finite."""

    LOSS_NOT_FINITE = "loss"
    NOT_FINITE = "gradient"


def line_of_group(group: LearningGroup, reason: Reason, step: int) -> str:
    """Return what a user reads of a learning group that has diverged."""
    names = ", ".join(f"'{name}'" for name in group.agent_names)
    fix = "lower its learning rate" if step else "look for nan in its inputs and initial weights"
    return f"agent {names}: the {reason.value} at step {step + 1} is not finite; {fix}"


def line_of_channel(channel: Channel, step: int, *, of_input: bool) -> str:
    """Return what a user reads of the synthetic gradient or input of a channel that has diverged."""
    kind, endpoint = ("input", channel.receiver) if of_input else ("gradient", channel.sender)
    what = f"the loss of the synthetic {kind} of its channel {channel.name}"
    return f"agent '{endpoint}': {what} at step {step + 1} is not finite; lower its learning rate"


@dataclass
class DivergenceRule:
    """What follows a divergence; of several seeds, with those that have stopped.

    Attributes:
        stopped_seeds: The seeds that a divergence has stopped while others continue, with its line
            (`DivergenceRuleOfSeeds`).
        events: The run's events, (step, one line).
    """

    events: list[tuple[int, str]] = field(default_factory=list)
    stopped_seeds: dict[int, str] = field(default_factory=dict)

    def passes_quick_check(self, tensors: Sequence[Tensor | None]) -> bool:
        """Return whether one sum over all tensors shows that none has diverged; else each member is looked at
        (`diverged_members`)."""
        unknown = [
            t for t in tensors if t is not None and (type(t) is not LazyGradient or not t.known_finite)
        ]
        if not unknown:
            return True
        if sum(map(Tensor.numel, unknown)) <= _COPIED:
            copied = torch._C._nn.flatten_dense_tensors(unknown)  # one call for all tensors
            return math.isfinite(torch.linalg.vector_norm(copied).item())
        return math.isfinite(torch.stack(torch._foreach_norm(unknown)).sum().item())

    def report(self, line: str, seed: int = 0) -> None:
        """Raise a divergence of a seed.

        Raises:
            DivergenceError: Always; of several seeds, never.
        """
        raise DivergenceError(line)


def diverged_members(member_count: int, tensors: Sequence[Tensor | None]) -> list[int]:
    """Return which of N members of a stack have a number that is not finite, of tensors [N, …] or [rows, …]."""
    flat = [t.reshape(member_count, -1) for t in tensors if t is not None]
    finite = torch.stack([t.isfinite().all(1) for t in flat]).all(0).tolist() if flat else []
    return [n for n, is_finite in enumerate(finite) if not is_finite]


class DivergenceRuleOfSeeds(DivergenceRule):
    """The rule of several seeds: one that diverges is stopped, and the others continue."""

    def __init__(self, rule_by_seed: Sequence[DivergenceRule]) -> None:
        super().__init__()
        self.rule_by_seed = rule_by_seed

    def report(self, line: str, seed: int = 0) -> None:
        """Stop the seed."""
        self.stopped_seeds.setdefault(seed, line)


class RunningStatistics:
    """The running statistics of learners and predictors, as they were before a step.

    They are kept without a copy: a step replaces their tensors, and changes none in place.

    Attributes:
        trained_parameters: All learners and predictors, with or without running statistics.
    """

    def __init__(self, agents: Mapping[str, Agent], channels: Mapping[str, Channel]) -> None:
        trained_parameters: list[TrainedParameters] = [agent.learner for agent in agents.values()]
        trained_parameters += [model for channel in channels.values() for model in channel.models]
        self.trained_parameters = list(dict.fromkeys(trained_parameters))
        self._with_statistics = [trained for trained in self.trained_parameters if trained.buffers]
        self.keep()

    def keep(self) -> None:
        """Keep those of now, before a step."""
        self._before = {trained: dict(trained.buffers) for trained in self._with_statistics}

    def restore(self) -> None:
        """Put all back."""
        for trained in self._with_statistics:
            trained.put_statistics(self._before[trained])

    def restore_members(self, trained: TrainedParameters, members: Tensor) -> None:
        """Put those of some members of a stack, [N] bool, back."""
        if trained.members and trained in self._before:
            trained.restore_buffers(members, self._before[trained])

    def replaced_statistics(self) -> Iterator[tuple[TrainedParameters, str, Tensor]]:
        """Yield the running statistics that the step has replaced: learner or predictor, name, and the value before."""
        for trained in self._with_statistics:
            for name, before in self._before[trained].items():
                if trained.buffers[name] is not before:
                    yield trained, name, before


class DivergenceCheck:
    """Checks the numbers of a step before they are used, and reports what has diverged: no parameter of that seed
    moves.

    Args:
        groups_by_seed: The learning groups of single agents, for each seed.
    """

    deferred = False
    """Whether a divergence is known only after `synchronize`."""

    def __init__(
        self,
        rule: DivergenceRule,
        agents: Mapping[str, Agent],
        channels: Mapping[str, Channel],
        groups_by_seed: Sequence[Sequence[LearningGroup]],
        learner_name_by_agent: Mapping[str, str],
    ) -> None:
        self.rule = rule
        self.agents, self.channels = agents, channels
        self.groups_by_seed, self.learner_name_by_agent = groups_by_seed, learner_name_by_agent
        self._single_groups = [
            {name: group for group in groups for name in group.agent_names} for groups in groups_by_seed
        ]
        """The learning groups of single agents by agent, for each seed."""
        self.statistics = RunningStatistics(agents, channels)

    def unstopped_members(self, stack: Agent | Channel) -> Mask[Members]:
        """Return the members of a stack that may move: those of seeds that have not diverged so far."""
        stopped_seeds = self.rule.stopped_seeds
        if not stopped_seeds:
            return ALL
        layout = stack.layout
        unstopped = [layout.seed_of(n) not in stopped_seeds for n in range(layout.member_count)]
        return Mask.of(torch.tensor(unstopped))

    def end_step(self, step: int) -> None:
        """End a step: put the running statistics of seeds that have diverged, at it or before, back."""
        if not self.rule.stopped_seeds:
            return
        stacks: list[Agent | Channel] = [*self.agents.values(), *self.channels.values()]
        for stack in stacks:
            unstopped = self.unstopped_members(stack)
            if unstopped is ALL:
                continue
            stopped = (~unstopped).tensor(stack.layout.member_count, "cpu")
            for trained in [stack.learner] if isinstance(stack, Agent) else stack.models:
                self.statistics.restore_members(trained, stopped)

    def synchronize(self) -> None:
        """Wait for the checks of a device: here every step is checked at once."""

    # --- agents ----------------------------------------------------------------------------------------------

    def check_updates(self, updates: Sequence[Update], step: int) -> None:
        """Report the groups of agents that have diverged.

        The gradient of a read, if one of its numbers is not finite, is zeroed in the rows of members that no learning
        signal has reached; those that features keep at rest are checked as the others are.

        Raises:
            DivergenceError: One has, and there is one seed.
        """
        tensors: list[Tensor | None] = []
        for update in updates:
            tensors += [reported.loss for reported in update.window_loss.reported_loss_by_agent.values()]
            for gradients in update.gradients_by_learner.values():
                tensors += gradients
            tensors += update.gradient_by_read.values()
        if self.rule.passes_quick_check(tensors):
            return
        for update in updates:
            self._zero_unreached(update)
            reasons = self._groups_diverged(update)
            for seed, groups in enumerate(self.groups_by_seed):
                for group in groups:
                    if group in reasons:
                        self.rule.report(line_of_group(group, reasons[group], step), seed)

    def _zero_unreached(self, update: Update) -> None:
        """Zero the gradients of reads that are not finite, in rows of members that no learning signal has reached."""
        for read, gradient in update.gradient_by_read.items():
            channel = self.channels[read.channel_name]
            learner_name = self.learner_name_by_agent[channel.receiver]
            members = update.moving_members_by_learner.get(learner_name, ALL)
            if members is ALL or bool(gradient.isfinite().all()):
                continue
            rows = self.agents[channel.receiver].layout.rows_of(members)
            update.gradient_by_read[read] = channel.mask_from_receiver(rows).zero_elsewhere(gradient)

    def _groups_diverged(self, update: Update) -> dict[LearningGroup, Reason]:
        """Why groups of single agents are reported: their gradients, losses or gradients of reads, by group."""
        reasons: dict[LearningGroup, Reason] = {}
        for name, gradients in update.gradients_by_learner.items():
            agent = self.agents[name]
            moving = (
                update.moving_members_by_learner.get(name, ALL).tensor(len(agent.members), "cpu").tolist()
            )
            for n in diverged_members(len(agent.members), gradients):
                if moving[n]:
                    reasons[self.single_group_of(agent, n)] = Reason.NOT_FINITE
        for read, gradient in update.gradient_by_read.items():
            if bool(gradient.isfinite().all()):
                continue
            channel = self.channels[read.channel_name]
            for k in diverged_members(len(channel.members), [gradient]):
                receiver = channel.members[k].receiver
                group = self._single_groups[channel.layout.seed_of(k)][receiver]
                reasons.setdefault(group, Reason.NOT_FINITE)
        for name, reported in update.window_loss.reported_loss_by_agent.items():
            agent = self.agents[name]
            for n in diverged_members(len(agent.members), [reported.loss]):
                reasons[self.single_group_of(agent, n)] = (
                    Reason.LOSS_NOT_FINITE
                )  # rather than the gradient, which has diverged with it
        return reasons

    def single_group_of(self, agent: Agent, member: int) -> LearningGroup:
        """Return the learning group of single agents that a member of a stack is in."""
        return self._single_groups[agent.layout.seed_of(member)][agent.members[member].name]

    # --- synthetic gradients and inputs ----------------------------------------------------------------------

    def check_predictors(self, updates: Sequence[tuple[str, PredictorUpdate]], step: int) -> None:
        """Report the models that have diverged. It is the last check before parameters move.

        Args:
            updates: What they learn, each with the name of its channel.

        Raises:
            DivergenceError: One has, and there is one seed.
        """
        if self.rule.passes_quick_check(
            [t for _, update in updates for t in (update.loss, *update.gradients)]
        ):
            return
        for name, update in updates:
            for k in diverged_members(update.loss.numel(), [*update.gradients, update.loss]):
                channel = self.channels[name]
                seed, member = channel.layout.seed_of(k), channel.members[k]
                self.rule.report(line_of_channel(member, step, of_input=update.for_input), seed)
