"""Divergence: numbers that are not finite, or too large, never reach a parameter (rule 32, divergence).

`DivergenceCheck` checks the gradients of a step before any is applied. `DivergenceRule` decides what follows a divergence: the
run ends, or of several seeds the one that diverged; and it keeps which seeds have stopped.

On a GPU every look at a number stops the stream of work: there the guard (guard.py) takes this one's place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.base.errors import DivergenceError
from antiphon.base.mask import ALL, Mask
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.updates import PredictorUpdate, Update
from antiphon.engine.heart.window import LearningGroup
from antiphon.nets.native.mlp import LazyGradient
from antiphon.nets.trained_parameters import TrainedParameters

NOT_FINITE = "is not finite"
GRADIENT, LOSS = "gradient {at} " + NOT_FINITE, "loss {at} " + NOT_FINITE
"""The reasons to report a group of agents; `at` stands for the step."""


@dataclass(frozen=True)
class Report:
    """A report of a divergence: one line about agents, with their names as data.

    Attributes:
        step: The step that it is about.
        text: The line, with `{agents}` for the quoted names and `{channel}` for the channel's.
        agents: The agents that it is about: a learning group, or an endpoint of a channel.
        channel: The channel that it is about; "": none.
        seed: The seed of the agents, among several.
    """

    step: int
    text: str
    agents: tuple[str, ...]
    channel: str = ""
    seed: int = 0

    def __str__(self) -> str:
        agents = ", ".join(f"'{name}'" for name in self.agents)
        return self.text.format(agents=agents, channel=self.channel)


@dataclass
class DivergenceRule:
    """Which numbers are a divergence, and what follows one; of several seeds, with those that have stopped.

    Attributes:
        bound: The largest norm that a gradient may have; None: any finite one.
        stopped: The seeds that a divergence has stopped while others continue, with its line (`DivergenceRuleOfSeeds`).
        events: The run's events, (step, one line): notes of the builder, and where outliers were first clipped.
    """

    bound: float | None = None
    events: list[tuple[int, str]] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)

    def passes_quick_check(self, numbers: Sequence[Tensor | None]) -> bool:
        """Return whether one sum over all numbers shows that none has diverged; otherwise `diverged` looks at each member.

        With a bound one sum does not show it, as each member's norm counts.
        """
        if self.bound is not None:
            return all(number is None for number in numbers)
        unchecked = [
            t for t in numbers if t is not None and (type(t) is not LazyGradient or not t.known_finite)
        ]
        return not unchecked or math.isfinite(torch.stack(torch._foreach_norm(unchecked)).sum().item())

    def diverged(self, count: int, gradients: Sequence[Tensor], others: Sequence[Tensor]) -> dict[int, str]:
        """Return which of `count` members of a stack have diverged, and what is wrong with each.

        Args:
            count: N, the members of the stack.
            gradients: Numbers [N, …] that must be finite, and whose norm must not exceed the bound.
            others: Numbers [N, …] or [rows, …] that must be finite alone, such as losses and gradients of leaves.
        """
        if not gradients and not others:
            return {}
        flat = [t.reshape(count, -1) for t in gradients]
        finite = torch.stack([t.isfinite().all(1) for t in [*flat, *(b.reshape(count, -1) for b in others)]])
        reasons = {n: NOT_FINITE for n, sound in enumerate(finite.all(0).tolist()) if not sound}
        if self.bound is not None and flat:
            lengths = torch.stack([t.norm(dim=1) for t in flat]).norm(dim=0)
            for n, length in enumerate(lengths.tolist()):
                if n not in reasons and length > self.bound:
                    reasons[n] = self.too_long
        return reasons

    @property
    def too_long(self) -> str:
        """The reason to report a gradient that is longer than the bound."""
        return f"exceeds on_divergence.max {self.bound:g}"

    def report(self, report: Report) -> None:
        """Raise a divergence.

        Raises:
            DivergenceError: Always; of several seeds, never.
        """
        raise DivergenceError(str(report))

    def add_event(self, report: Report) -> None:
        """Add an event."""
        self.events.append((report.step, str(report)))


class DivergenceRuleOfSeeds(DivergenceRule):
    """The rule of several seeds: one that diverges is stopped, and the others continue.

    Args:
        of_seeds: What follows a divergence in each seed.
    """

    def __init__(self, of_seeds: Sequence[DivergenceRule]) -> None:
        super().__init__(of_seeds[0].bound)
        self.of_seeds = of_seeds

    def report(self, report: Report) -> None:
        """Stop the seed of the report."""
        self.stopped.setdefault(report.seed, str(report))

    def add_event(self, report: Report) -> None:
        """Add an event to those of its seed."""
        self.of_seeds[report.seed].add_event(report)


class RunningStatistics:
    """The running statistics of learners and predictors, as they were before a step.

    They are kept without a copy: a step replaces their tensors, and changes none in place.

    Args:
        agents: All agents, by name.
        channels: All channels, by name.

    Attributes:
        trained: All learners and predictors, with or without running statistics.
    """

    def __init__(self, agents: Mapping[str, Agent], channels: Mapping[str, Channel]) -> None:
        trained: list[TrainedParameters] = [agent.learner for agent in agents.values()]
        trained += [model for channel in channels.values() for model in channel.models]
        self.trained = list(dict.fromkeys(trained))
        self._with_statistics = [trained for trained in self.trained if trained.buffers]
        self.keep()

    def keep(self) -> None:
        """Keep the running statistics of before a step."""
        self._before = {trained: dict(trained.buffers) for trained in self._with_statistics}

    def restore(self) -> None:
        """Put all running statistics of before the step back."""
        for trained in self._with_statistics:
            trained.put_statistics(self._before[trained])

    def restore_members(self, trained: TrainedParameters, members: Tensor) -> None:
        """Put the running statistics of some members of a stack, [N] bool, back."""
        if trained.members and trained in self._before:
            trained.restore_buffers(members, self._before[trained])

    def replaced(self) -> Iterator[tuple[TrainedParameters, str, Tensor]]:
        """Yield the running statistics that the step has replaced: the learner or predictor, the name, and the value of before."""
        for trained in self._with_statistics:
            for name, before in self._before[trained].items():
                if trained.buffers[name] is not before:
                    yield trained, name, before


class DivergenceCheck:
    """Checks the numbers of a step before they are used, and reports what has diverged; no parameter of a seed that has diverged moves.

    Args:
        rule: What follows a divergence.
        agents: All agents, by name.
        channels: All channels, by name.
        groups: The learning groups of single agents, for each seed.

    Attributes:
        statistics: The running statistics of before the step.
    """

    deferred = False
    """Whether a divergence is known only after `synchronize`."""

    def __init__(
        self,
        rule: DivergenceRule,
        agents: Mapping[str, Agent],
        channels: Mapping[str, Channel],
        groups: Sequence[Sequence[LearningGroup]],
    ) -> None:
        self.rule = rule
        self.agents, self.channels = agents, channels
        self.groups = groups
        self._groups_by_name = [
            {name: group for group in of_seed for name in group.agents} for of_seed in groups
        ]
        self.statistics = RunningStatistics(agents, channels)

    def unstopped_members(self, stack: Agent | Channel) -> Mask:
        """Return the members of a stack that may move: not those of seeds that have diverged, at this step or before."""
        stopped = self.rule.stopped
        if not stopped:
            return ALL
        layout = stack.layout
        return Mask.of(torch.tensor([layout.seed_of(n) not in stopped for n in range(layout.count)]))

    def end_step(self, step: int) -> None:
        """End a step: put the running statistics of seeds that have diverged, at it or before, back."""
        stacks: list[Agent | Channel] = [*self.agents.values(), *self.channels.values()]
        for stack in stacks if self.rule.stopped else ():
            members = self.unstopped_members(stack)
            for trained in [stack.learner] if isinstance(stack, Agent) else stack.models:
                if members is not ALL:
                    self.statistics.restore_members(trained, (~members).tensor(stack.layout.count, "cpu"))

    def synchronize(self) -> None:
        """Wait for the checks of a device: here every step is checked at once."""

    # --- agents ----------------------------------------------------------------------------------------------

    def check_updates(self, updates: Sequence[Update], step: int) -> None:
        """Report the groups of agents that have diverged.

        Of members that take no step, the rows of a leaf's gradient are zeroed if one of its numbers is not finite; else they return.

        Raises:
            DivergenceError: One has, and there is one seed.
        """
        checked: list[Tensor | None] = []
        for update in updates:
            checked += [reported.loss for reported in update.window_loss.reported.values()]
            for gradients in update.gradients.values():
                checked += gradients
            checked += update.leaf_gradients.values()
        for update in () if self.rule.passes_quick_check(checked) else updates:
            self._zero_unreached(update)
            wrong = self._groups_diverged(update)
            for seed, groups in enumerate(self.groups):
                for group in groups:
                    if group in wrong:
                        self.report_group(group, wrong[group], step, seed)

    def _zero_unreached(self, update: Update) -> None:
        """Zero the gradients of leaves that are not finite, in rows of members that take no step: no learning signal reached them."""
        for read, gradient in update.leaf_gradients.items():
            channel = self.channels[read.channel]
            members = update.stepping_members.get(channel.receiver, ALL)
            if members is ALL or bool(gradient.isfinite().all()):
                continue
            rows = members.map(self.agents[channel.receiver].layout.rows_of_members)
            update.leaf_gradients[read] = channel.mask_of_receiver(rows).zero_elsewhere(gradient)

    def _groups_diverged(self, update: Update) -> dict[LearningGroup, str]:
        """Why groups of single agents are reported: their gradients, losses or gradients of leaves, by group."""
        wrong: dict[LearningGroup, str] = {}
        lengths: dict[LearningGroup, float] = {}  # the norm of all gradients of a group together
        for name, gradients in update.gradients.items():
            agent = self.agents[name]
            stepping = update.stepping_members.get(name, ALL).tensor(len(agent.members), "cpu").tolist()
            flat = [g.reshape(len(agent.members), -1) for g in gradients if g is not None]
            finite = torch.stack([g.isfinite().all(1) for g in flat]).all(0).tolist() if flat else []
            norms = torch.stack([g.norm(dim=1) for g in flat]).norm(dim=0).tolist() if flat else []
            for n, (sound, norm) in enumerate(zip(finite, norms, strict=True)):
                group = self.group_of(agent, n)
                if not stepping[n]:
                    continue
                if not sound:
                    wrong[group] = GRADIENT
                lengths[group] = math.hypot(lengths.get(group, 0.0), norm)
        for group, length in lengths.items():
            if self.rule.bound is not None and length > self.rule.bound:
                wrong.setdefault(group, f"gradient {{at}} {self.rule.too_long}")
        for read, gradient in update.leaf_gradients.items():
            if bool(gradient.isfinite().all()):
                continue
            channel = self.channels[read.channel]
            for k in self.rule.diverged(len(channel.members), [], [gradient]):
                receiver = channel.members[k].receiver
                wrong.setdefault(self._groups_by_name[channel.layout.seed_of(k)][receiver], GRADIENT)
        for name, reported in update.window_loss.reported.items():
            agent = self.agents[name]
            for n in self.rule.diverged(len(agent.members), [], [reported.loss]):
                wrong[self.group_of(agent, n)] = LOSS  # its gradient is only what follows from it
        return wrong

    def group_of(self, agent: Agent, member: int) -> LearningGroup:
        """Return the learning group of single agents that a member of a stack is in."""
        return self._groups_by_name[agent.layout.seed_of(member)][agent.members[member].name]

    def report_group(self, group: LearningGroup, reason: str, step: int, seed: int = 0) -> None:
        """Report a group of agents; `{at}` in the reason stands for the step. See `DivergenceRule.report`."""
        fix = "lower its learning rate, or the scale of the synthetic gradients it receives"
        if reason in (LOSS, GRADIENT):
            place = "loss" if reason == LOSS else "network's output"
            fix = f"{fix}, or look for nan in its inputs and its {place}"
            if step == 0:
                fix = f"nothing was learned before: look for nan in its {place}, its inputs and its initial weights"
        text = f"agent {{agents}}: the {reason.format(at=f'at step {step + 1}')}; {fix}"
        self.rule.report(Report(step, text, group.agents, seed=seed))

    # --- synthetic gradients and inputs ----------------------------------------------------------------------

    def check_predictors(self, updates: Sequence[tuple[str, PredictorUpdate]], step: int) -> None:
        """Report the models that have diverged. It is the last check before parameters move.

        Args:
            updates: What they learn, each with the name of its channel.
            step: The step just taken.

        Raises:
            DivergenceError: One has, and there is one seed.
        """
        if self.rule.passes_quick_check(
            [t for _, update in updates for t in (update.loss, *update.gradients)]
        ):
            return
        for name, update in updates:
            diverged = self.rule.diverged(
                update.loss.numel(), [g for g in update.gradients if g is not None], [update.loss]
            )
            for k, reason in diverged.items():
                channel = self.channels[name]
                seed, member = channel.layout.seed_of(k), channel.members[k]
                self.report_channel(member, reason, step, of_input=update.of_input, seed=seed)

    def report_channel(
        self, channel: Channel, reason: str, step: int, *, of_input: bool, seed: int = 0
    ) -> None:
        """Report the synthetic gradient or input of a channel: see `DivergenceRule.report`."""
        kind, endpoint = ("input", channel.receiver) if of_input else ("gradient", channel.sender)
        fix = (
            "the learning rate of the synthetic input"
            if of_input
            else "its learning rate, or the rate of its synthetic gradients"
        )
        text = (
            f"agent {{agents}}: the loss of the synthetic {kind} of its channel {{channel}} at step {step + 1} {reason}; "
            f"lower {fix}"
        )
        self.rule.report(Report(step, text, (endpoint,), channel.name, seed))
