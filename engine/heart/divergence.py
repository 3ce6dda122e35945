"""Divergence: what is not finite, or too long, never reaches a parameter (semantics 32).

`Divergence` is what a scenario says about it, `DivergenceCheck` what a step does: gradients are checked before any is
applied, and a divergence ends the run, or of several seeds the one that diverged.

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
from antiphon.engine.heart.message import LearningGroup
from antiphon.engine.heart.updates import PredictorUpdate, Update
from antiphon.nets.trained_parameters import TrainedParameters

NOT_FINITE = "is not finite"
GRADIENT, LOSS = (f"{kind} {{at}} {NOT_FINITE}" for kind in ("gradient", "loss"))
"""What is wrong with an agent, `at` a step."""


@dataclass(frozen=True)
class Report:
    """One line about agents, with their names as data.

    Attributes:
        step: When.
        text: The line, with `{agents}` for the quoted names and `{channel}` for the channel's.
        agents: Whom it concerns: those of a learning group, or the end of a channel.
        channel: The channel, where it concerns one.
        seed: Which of several seeds they are of.
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
class Divergence:
    """Finds what has diverged, and reports it.

    Attributes:
        bound: The largest norm that a gradient may have; None: any finite one.
        stopped: Seeds that a divergence has stopped while others continue, with what it was (`DivergenceOfSeeds`).
        events: What was shortened (the first time): (step, one line).
    """

    bound: float | None = None
    events: list[tuple[int, str]] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)

    def fine(self, numbers: Sequence[Tensor | None]) -> bool:
        """Whether one look at all of them shows that nothing is wrong; where there is a bound it never does.

        Gradients may have `finite`: whether that is known from how they are made.
        """
        if self.bound is not None:
            return all(number is None for number in numbers)
        unchecked = [
            t for t in numbers if t is not None and (type(t) is Tensor or not getattr(t, "finite", False))
        ]
        return not unchecked or math.isfinite(torch.stack(torch._foreach_norm(unchecked)).sum().item())

    def members(self, count: int, gradients: Sequence[Tensor], beside: Sequence[Tensor]) -> dict[int, str]:
        """Return which of `count` members of a stack have diverged, and what is wrong with each.

        Args:
            count: N.
            gradients: [N, …] each: to be finite, and no longer than the bound.
            beside: [N, …] or rows: to be finite too, like losses and what goes back.
        """
        if not gradients and not beside:
            return {}
        flat = [t.reshape(count, -1) for t in gradients]
        finite = torch.stack([t.isfinite().all(1) for t in [*flat, *(b.reshape(count, -1) for b in beside)]])
        reasons = {n: NOT_FINITE for n, sound in enumerate(finite.all(0).tolist()) if not sound}
        if self.bound is not None and flat:
            lengths = torch.stack([t.norm(dim=1) for t in flat]).norm(dim=0)
            for n, length in enumerate(lengths.tolist()):
                if n not in reasons and length > self.bound:
                    reasons[n] = self.too_long
        return reasons

    @property
    def too_long(self) -> str:
        """What is wrong with a gradient that is longer than the bound."""
        return f"exceeds on_divergence.max {self.bound:g}"

    def report(self, report: Report) -> None:
        """Raise a divergence.

        Raises:
            DivergenceError: Always, but of several seeds.
        """
        raise DivergenceError(str(report))

    def note(self, report: Report) -> None:
        """Note an event."""
        self.events.append((report.step, str(report)))


class DivergenceOfSeeds(Divergence):
    """A seed that diverges is stopped, and the others continue.

    Args:
        of_seeds: What follows a divergence in each seed.
    """

    def __init__(self, of_seeds: Sequence[Divergence]) -> None:
        super().__init__(of_seeds[0].bound)
        self.of_seeds = of_seeds

    def report(self, report: Report) -> None:
        """Note that a seed has stopped."""
        self.stopped.setdefault(report.seed, str(report))

    def note(self, report: Report) -> None:
        """Note an event in its seed."""
        self.of_seeds[report.seed].note(report)


class RunningStatistics:
    """The running statistics of learners and predictors; these are values, which a step replaces.

    Args:
        agents: All.
        channels: All.

    Attributes:
        trained: Learners and predictors, with or without running statistics.
    """

    def __init__(self, agents: Mapping[str, Agent], channels: Mapping[str, Channel]) -> None:
        trained: list[TrainedParameters] = [agent.learner for agent in agents.values()]
        trained += [model for channel in channels.values() for model in channel.models]
        self.trained = list(dict.fromkeys(trained))
        self._with_statistics = [owner for owner in self.trained if owner.buffers]
        self.note()

    def note(self) -> None:
        """Keep what they are before a step."""
        self._before = {owner: dict(owner.buffers) for owner in self._with_statistics}

    def restore(self) -> None:
        """Put all back to what they were before the step."""
        for owner in self._with_statistics:
            owner.put_statistics(self._before[owner])

    def restore_members(self, owner: TrainedParameters, members: Tensor) -> None:
        """Put those of members of a stack, [N] bool, back."""
        if owner.members and owner in self._before:
            owner.restore_buffers(members, self._before[owner])

    def replaced(self) -> Iterator[tuple[TrainedParameters, str, Tensor]]:
        """Those that the step has replaced: whose, the name, and the value of before."""
        for owner in self._with_statistics:
            for name, before in self._before[owner].items():
                if owner.buffers[name] is not before:
                    yield owner, name, before


class DivergenceCheck:
    """Checks the numbers of a step before they are used, and reports what has diverged; of several seeds nothing of it moves.

    Args:
        divergence: What follows.
        agents: All, by name.
        channels: All, by name.
        groups: The learning groups of single agents, of each seed.

    Attributes:
        statistics: Running statistics of before the step.
    """

    later = False
    """Whether what has diverged is known at `synchronize` only."""

    def __init__(
        self,
        divergence: Divergence,
        agents: Mapping[str, Agent],
        channels: Mapping[str, Channel],
        groups: Sequence[Sequence[LearningGroup]],
    ) -> None:
        self.divergence = divergence
        self.agents, self.channels = agents, channels
        self.groups = groups
        self._group_of = [{name: group for group in of_seed for name in group.agents} for of_seed in groups]
        self.statistics = RunningStatistics(agents, channels)

    def decide(self) -> None:
        """End the check of what is to move: on the host, what has diverged is known by then."""

    def moving(self, stack: Agent | Channel) -> Mask:
        """The members of a stack that may move: not those of seeds that have diverged, at this step or before."""
        stopped = self.divergence.stopped
        if not stopped:
            return ALL
        layout = stack.layout
        return Mask.of(torch.tensor([layout.seed_of(n) not in stopped for n in range(layout.count)]))

    def close(self, step: int) -> None:
        """End a step: running statistics of seeds that have diverged, at it or before, are put back."""
        parts: list[Agent | Channel] = [*self.agents.values(), *self.channels.values()]
        for part in parts if self.divergence.stopped else ():
            members = self.moving(part)
            for owner in [part.learner] if isinstance(part, Agent) else part.models:
                if members is not ALL:
                    self.statistics.restore_members(owner, (~members).tensor(part.layout.count, "cpu"))

    def synchronize(self) -> None:
        """Nothing to wait for: every step is checked at once."""

    # --- agents ----------------------------------------------------------------------------------------------

    def check_updates(self, updates: Sequence[Update], step: int) -> None:
        """Report the groups of agents that have diverged.

        It changes one thing: where what is returned for a leaf is not finite, the rows of members that take no step are zeroed.

        Raises:
            DivergenceError: One has, and there is one seed.
        """
        checked: list[Tensor | None] = []
        for update in updates:
            checked += [losses.loss for losses in update.window_loss.losses.values()]
            checked += (gradient for gradients in update.gradients.values() for gradient in gradients)
            checked += update.leaf_gradients.values()
        for update in () if self.divergence.fine(checked) else updates:
            self._zero_unreached(update)
            wrong = self._groups_diverged(update)
            for seed, groups in enumerate(self.groups):
                for group in groups:
                    if group in wrong:
                        self.report_group(group, wrong[group], step, seed)

    def _zero_unreached(self, update: Update) -> None:
        """Zero what members that take no step return for a leaf that is not finite: no signal reached them, so they return nothing."""
        for read, gradient in update.leaf_gradients.items():
            channel = self.channels[read.channel]
            members = update.stepping_members.get(channel.receiver, ALL)
            if members is ALL or gradient is None or bool(gradient.isfinite().all()):
                continue
            rows = members.map(self.agents[channel.receiver].layout.rows_of)
            update.leaf_gradients[read] = rows.map(channel.rows_of_receiver).fill(gradient)

    def _groups_diverged(self, update: Update) -> dict[LearningGroup, str]:
        """By group of single agents: what is wrong with its gradients, losses, or what it returns."""
        wrong: dict[LearningGroup, str] = {}
        lengths: dict[LearningGroup, float] = {}  # of all gradients of a group together
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
            if self.divergence.bound is not None and length > self.divergence.bound:
                wrong.setdefault(group, f"gradient {{at}} {self.divergence.too_long}")
        for read, gradient in update.leaf_gradients.items():
            if gradient is None or bool(gradient.isfinite().all()):
                continue
            channel = self.channels[read.channel]
            for k in self.divergence.members(len(channel.members), [], [gradient]):
                receiver = channel.members[k].receiver
                wrong.setdefault(self._group_of[channel.layout.seed_of(k)][receiver], GRADIENT)
        for name, losses in update.window_loss.losses.items():
            agent = self.agents[name]
            for n in self.divergence.members(len(agent.members), [], [losses.loss]):
                wrong.setdefault(self.group_of(agent, n), LOSS)
        return wrong

    def group_of(self, agent: Agent, member: int) -> LearningGroup:
        """Return the learning group of single agents that a member of a stack is in."""
        return self._group_of[agent.layout.seed_of(member)][agent.members[member].name]

    def report_group(self, group: LearningGroup, reason: str, step: int, seed: int = 0) -> None:
        """Report what is wrong with a group of agents, with `at` for the step: see `Divergence.report`."""
        text = (
            f"agent {{agents}}: the {reason.format(at=f'at step {step + 1}')}; "
            "lower its learning rate, or the scale of the synthetic gradients it receives"
        )
        self.divergence.report(Report(step, text, group.agents, seed=seed))

    # --- synthetic gradients and inputs ----------------------------------------------------------------------

    def check_predictors(self, updates: dict[str, PredictorUpdate], step: int) -> None:
        """Report the models that have diverged.

        Raises:
            DivergenceError: One has, and there is one seed.
        """
        if self.divergence.fine([t for update in updates.values() for t in (update.loss, *update.gradients)]):
            return
        for name, update in updates.items():
            diverged = self.divergence.members(
                update.loss.numel(), [g for g in update.gradients if g is not None], [update.loss]
            )
            for k, reason in diverged.items():
                channel = self.channels[name]
                seed, member = channel.layout.seed_of(k), channel.members[k]
                self.report_channel(member, reason, step, of_input=update.of_input, seed=seed)

    def report_channel(
        self, channel: Channel, reason: str, step: int, *, of_input: bool, seed: int = 0
    ) -> None:
        """Report what is wrong with the loss of a channel's synthetic gradient or input: see `Divergence.report`."""
        kind, end = ("input", channel.receiver) if of_input else ("gradient", channel.sender)
        fix = (
            "the learning rate of the synthetic input"
            if of_input
            else "its learning rate, or the rate of its synthetic gradients"
        )
        text = (
            f"agent {{agents}}: the loss of the synthetic {kind} of its channel {{channel}} at step {step + 1} {reason}; "
            f"lower {fix}"
        )
        self.divergence.report(Report(step, text, (end,), channel.name, seed))
