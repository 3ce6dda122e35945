"""The report of one step: what each learning group and predictor learned, from what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from antiphon.comms.predictors import Example
from antiphon.engine.build.stacking import Stacked
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.group import LearningGroup
from antiphon.engine.core.replicas import Members
from antiphon.engine.core.tape import Tape
from antiphon.engine.step.losses import Losses, WindowLoss
from antiphon.engine.step.predictors import InputUpdate, PredictorUpdate

__all__ = ["AgentReport", "LossesByAgent", "StepReport", "Update", "losses_of", "without"]


@dataclass(slots=True, eq=False)
class Update:
    """What one learning group learns from one window."""

    group: LearningGroup
    tape: Tape
    gradients: dict[str, list[Tensor | None]] = field(default_factory=dict)
    """By the learner's first agent, in the order of its trainable parameters."""
    window_loss: WindowLoss = field(default_factory=WindowLoss)
    """Of its objectives."""
    injected: dict[str, Tensor] = field(default_factory=dict)
    """Newest injection by channel, for telemetry."""
    injected_messages: set[tuple[str, int]] = field(default_factory=set)
    """Channels and stamps of the messages with an injection that parameters follow."""
    learners: list[str] = field(default_factory=list)
    """The first agents of the learners that gradients are asked for."""
    stepping_members: dict[str, Members] = field(default_factory=dict)
    """By stack, or lone agent beside stacks: the members that take a step, [N] bool; None or absent: all."""
    auxiliary: set[str] = field(default_factory=set)
    """Agents with an auxiliary loss."""

    @property
    def losses(self) -> dict[str, Losses]:
        """The objectives' losses, by agent."""
        return self.window_loss.losses


@dataclass
class StepReport:
    """What was learned at one step, by stack."""

    updates: list[Update]
    predictor_updates: dict[str, PredictorUpdate]
    """By channel."""
    inputs: dict[str, InputUpdate] = field(default_factory=dict)
    """Of the synthetic inputs that learned, by channel."""


class AgentReport:
    """What was learned at one step, by agent and channel; stacks are taken apart only where it is read.

    Args:
        stacks: The report by stack.
        stacked: The stacks.
    """

    def __init__(self, stacks: StepReport, stacked: Stacked) -> None:
        self.stacks, self._stacked = stacks, stacked

    @cached_property
    def updates(self) -> list[Update]:
        """By learning group of single agents."""
        return [own for update in self.stacks.updates for own in self._by_group(update)]

    @cached_property
    def predictor_updates(self) -> dict[str, PredictorUpdate]:
        """By channel."""
        found: dict[str, PredictorUpdate] = {}
        for name, update in self.stacks.predictor_updates.items():
            channel = self._stacked.system.channels[name]
            found |= (
                self._by_channel(channel, update) if len(channel.members) > 1 else {channel.names[0]: update}
            )
        return {name: found[name] for name in self._stacked.base.channels if name in found}

    @cached_property
    def inputs(self) -> dict[str, InputUpdate]:
        """By channel."""
        found: dict[str, InputUpdate] = {}
        for name, update in self.stacks.inputs.items():
            channel = self._stacked.system.channels[name]
            if len(channel.members) == 1:
                found[channel.names[0]] = update
                continue
            for k, own in enumerate(channel.names):
                if update.members is None or update.members[k]:
                    found[own] = InputUpdate(update.loss[k], [g[k] for g in update.gradients])
        return {name: found[name] for name in self._stacked.base.channels if name in found}

    def losses(self) -> Iterator[tuple[tuple[str, ...], Losses]]:
        """Yield the objectives' losses: the names of a stack's members, and the losses, [N]."""
        for update in self.stacks.updates:
            for name, losses in update.losses.items():
                yield self._stacked.system.agents[name].names, losses

    def by_agent(self) -> Mapping[str, Tensor]:
        """The losses by agent."""
        return LossesByAgent(self)

    def _by_channel(self, channel: Channel, update: PredictorUpdate) -> dict[str, PredictorUpdate]:
        count = len(channel.members)
        examples = [_examples(example, channel.batch, count) for example in update.examples]
        predictions = None if update.prediction is None else torch.split(update.prediction, channel.batch)
        return {
            name: PredictorUpdate(
                [
                    some[k]
                    for some, example in zip(examples, update.examples, strict=True)
                    if example.members is None or example.members[k]
                ],
                update.loss[k],
                [g[k] for g in update.gradients],
                None if predictions is None else predictions[k],
            )
            for k, name in enumerate(channel.names)
            if update.members is None or update.members[k]
        }

    def _by_group(self, update: Update) -> Iterator[Update]:
        base, agents = self._stacked.base, self._stacked.system.agents
        if not any(agents[name].stacked for name in update.group.members):
            yield update
            return
        found: dict[int, Update] = {}
        for name in update.group.members:
            agent = agents[name]
            losses = update.losses.get(name)
            participating = agent.learning(update.tape.window) if agent.stacked else None
            for n, member in enumerate(agent.members):
                group = base.group_of[member.name]
                own = found.setdefault(id(group), Update(group, update.tape, window_loss=WindowLoss()))
                if participating is not None and not participating[n]:
                    continue
                if name in update.gradients:
                    own.gradients[member.name] = [
                        g[n] if agent.stacked and g is not None else g for g in update.gradients[name]
                    ]
                if losses is not None and not _without_target(losses, n):
                    own.window_loss.losses[member.name] = losses_of(losses, [n])
        for name, injected in update.injected.items():
            channel = self._stacked.system.channels[name]
            rows = torch.split(injected, channel.batch)
            injecting = channel.injecting(agents[channel.sender].participates(update.tape.window))
            for k, lone in enumerate(channel.members):
                if injecting is None or injecting[k]:
                    found[id(base.group_of[lone.sender])].injected[lone.name] = rows[k]
        yield from found.values()


class LossesByAgent(Mapping[str, Tensor]):
    """The losses of a step by agent, of those that there was a target for; taken apart when it is read."""

    def __init__(self, report: AgentReport) -> None:
        self._report = report
        self._found: dict[str, Tensor] | None = None

    def _all(self) -> dict[str, Tensor]:
        if self._found is None:
            self._found = {}
            for names, losses in self._report.losses():
                count = losses.count
                each = count.tolist() if isinstance(count, Tensor) else [count] * len(names)
                self._found |= {n: v for n, v, c in zip(names, losses.loss.unbind(), each, strict=True) if c}
        return self._found

    def __repr__(self) -> str:
        return repr(self._all())

    def __getitem__(self, name: str) -> Tensor:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def losses_of(losses: Losses, places: list[int] | slice) -> Losses:
    """The losses of some members of a stack."""
    count = losses.count[places] if isinstance(losses.count, Tensor) else losses.count
    return Losses(losses.loss[places], losses.score[places], count)


def without(losses: Losses, members: Tensor) -> Losses:
    """The losses of a stack as if `members`, [N] bool, had had no target."""
    count = torch.as_tensor(losses.count, device=members.device).expand(len(members))
    found = [torch.where(members, torch.zeros_like(t), t) for t in (losses.loss, losses.score, count)]
    return Losses(*found)


def _without_target(losses: Losses, n: int) -> bool:
    return isinstance(losses.count, Tensor) and not bool(losses.count[n])


def _examples(example: Example, batch: int, count: int) -> list[Example]:
    names = ("message", "context", "delta", "valid", "target", "prediction", "loss")
    split = {
        name: torch.split(value, batch) for name in names if (value := getattr(example, name)) is not None
    }
    return [
        replace(example, members=None, **{name: rows[k] for name, rows in split.items()})
        for k in range(count)
    ]
