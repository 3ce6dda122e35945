"""What one step learned: losses, the report of each learning group and predictor, and the members of a stack it reached.

An agent takes an optimiser step only where a gradient reaches it. The members of a stack share one gradient tensor, so
this follows from where signals were injected, where objectives had a target, and what the window passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from antiphon.comms.synthetic_gradients import Example
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.masks import EnvMask, Members
from antiphon.engine.core.records import AgentTick, Tape
from antiphon.engine.core.system import LearningGroup, Stacked, System
from antiphon.engine.step.predictors import InputUpdate, PredictorUpdate

__all__ = [
    "AgentReport",
    "Losses",
    "LossesByAgent",
    "MeanAccumulator",
    "StepReport",
    "Update",
    "WindowLoss",
    "among",
    "losses_of",
    "reached",
    "reached_alone",
    "without",
]


@dataclass(slots=True)
class Losses:
    """An agent's objective over the ticks of a window."""

    loss: Tensor
    """Sum over ticks of the mean over the batch; of a stack [N], like the others."""
    score: Tensor
    """Sum over ticks and environments of the objective's metric."""
    count: int | Tensor
    """Ticks and environments that there was a target for."""


@dataclass(slots=True)
class WindowLoss:
    """All objectives over a window."""

    total: Tensor | None = None
    """Sum over agents and ticks of the mean over the batch, with its graph; None without any target."""
    by_agent: dict[str, Tensor] = field(default_factory=dict)
    """Per agent and sample, [rows]: the sum over its ticks, without a graph."""
    losses: dict[str, Losses] = field(default_factory=dict)
    """By agent."""
    evaluated: set[tuple[int, str]] = field(default_factory=set)
    """Steps and agents of the ticks that there was a target for."""

    @property
    def samples(self) -> Tensor | None:
        """[rows], the same per sample over all agents, without a graph; None without any target."""
        found = list(self.by_agent.values())
        return None if not found else found[0] if len(found) == 1 else torch.stack(found).sum(0)


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


# --- means over steps ----------------------------------------------------------------------------------------

Sums = tuple[Tensor, Tensor, int | Tensor]
"""Of loss, metric, and of what both are over."""


class MeanAccumulator:
    """Sums of loss and metric per agent, kept on the device of the losses.

    Args:
        system: The system of the agents.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._sums: dict[tuple[str, ...], Sums] = {}
        """By agents: one, or the members of a stack ([N] each)."""
        self._row: dict[tuple[str, ...], Sums] = {}
        """Sums of the last complete row."""

    def add(self, report: AgentReport) -> None:
        """Add the losses of one step."""
        for names, losses in report.losses():
            known = self._sums.get(names)
            if known is None:
                known = self._stack(names)
            if known is None:
                self._sums[names] = (losses.loss, losses.score, losses.count)
            else:
                loss, score, count = known
                self._sums[names] = (loss + losses.loss, score + losses.score, count + losses.count)

    def _stack(self, names: tuple[str, ...]) -> Sums | None:
        """Stack the sums of single agents, as they are in a checkpoint, to those of their stack."""
        if len(names) == 1:
            return None
        each = [self._sums.pop((name,), None) for name in names]
        some = next((sums for sums in each if sums is not None), None)
        if some is None:
            return None
        zero = torch.zeros_like(some[0])
        full = [(zero, zero, 0) if sums is None else sums for sums in each]
        counts = [torch.as_tensor(count, device=zero.device).reshape(1) for _, _, count in full]
        return (
            torch.cat([loss for loss, _, _ in full]),
            torch.cat([score for _, score, _ in full]),
            torch.cat(counts),
        )

    def _by_agent(self, sums: dict[tuple[str, ...], Sums]) -> dict[str, Sums]:
        found: dict[str, Sums] = {}
        for names, (loss, score, count) in sums.items():
            for n, name in enumerate(names):
                counted = count[n : n + 1] if isinstance(count, Tensor) else count
                if len(names) == 1 or int(counted):
                    found[name] = loss[n : n + 1], score[n : n + 1], counted
        return {name: found[name] for name in self._system.agents if name in found}

    def means(self) -> dict[str, dict[str, float]]:
        """Return `loss` and the objective's metric by agent, means over all ticks and environments with a target."""
        return self._means(self._sums)

    def _means(self, sums: dict[tuple[str, ...], Sums]) -> dict[str, dict[str, float]]:
        found = {}
        for name, (loss, score, count) in self._by_agent(sums).items():
            goal = self._system.agents[name].goal
            assert goal is not None
            samples = int(count)
            if samples:
                mean = loss.item() * self._system.batch / samples
                found[name] = {"loss": mean, goal.objective.metric: score.item() / samples}
        return found

    def pop(self) -> dict[str, dict[str, float]]:
        """Return the means and reset the sums."""
        found, self._sums = self.means(), {}
        return found

    def end_row(self) -> None:
        """Complete a row and reset the sums."""
        self._row, self._sums = self._sums, {}

    def row(self) -> dict[str, dict[str, float]]:
        """Return the means of the last complete row."""
        return self._means(self._row)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return {
            name: [loss[0], score[0], int(count)]
            for name, (loss, score, count) in self._by_agent(self._sums).items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums; older checkpoints have single numbers, the count as a tensor too where a signal marks targets."""
        self._sums = {
            (name,): (loss.reshape(1), score.reshape(1), int(count))
            for name, (loss, score, count) in state.items()
        }


# --- losses of some members, and whom a gradient reaches -----------------------------------------------------


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


def among(a: Members, b: Members) -> Members:
    """Return the members in both."""
    if a is None or b is None:
        return a if b is None else b
    return a & b


def reached_alone(system: System, update: Update, agent: str) -> bool:
    """Whether an update's learning signal reaches a lone agent that learns with stacks."""
    if agent in update.losses:
        return True
    reach = _Reach(system, update)
    reach.read()
    return any(bool(members.any()) for (name, _), members in reach.by_tick.items() if name == agent)


def reached(system: System, update: Update, agent: Agent) -> Members:
    """The members of a stack that an update's learning signal reaches."""
    losses = update.losses.get(agent.name)
    if losses is not None and not isinstance(losses.count, torch.Tensor):
        return None
    reach = _Reach(system, update)
    for name, stamp in update.injected_messages:
        channel = system.channels[name]
        if channel.sender != agent.name or not channel.every_sender_sends:
            continue
        silent = reach.sent[name, stamp].no_injection
        if channel.predictors_disabled is None and not isinstance(silent, torch.Tensor):
            return None
    reach.read()
    return reach.of(agent)


class _Reach:
    """A window read backwards."""

    def __init__(self, system: System, update: Update) -> None:
        self.system = system
        self.update = update
        self.by_tick: dict[tuple[str, int], torch.Tensor] = {}
        """By agent and step: the members reached, [N] bool."""
        self.sent = {(name, record.stamp): record for name, record in update.tape.sent}

    def read(self) -> None:
        """Follow the signals from the window's end to its start."""
        update = self.update
        for name, stamp in update.injected_messages:
            self._add_senders(name, stamp, None)
        for tick in reversed(update.tape.ticks):
            for part in tick.parts:
                key = part.agent, tick.step
                if (tick.step, part.agent) in update.window_loss.evaluated:
                    known = self.by_tick.get(key, torch.zeros((), dtype=torch.bool))
                    self.by_tick[key] = known | self._with_target(part.agent)
                if key in self.by_tick:
                    self._pass_on(part, self.by_tick[key])

    def of(self, agent: Agent) -> Members:
        """The members of a stack that are reached at some tick."""
        found = torch.zeros(len(agent.members), dtype=torch.bool)
        for (name, _), members in self.by_tick.items():
            if name == agent.name:
                found = found | members
        if agent.name in self.update.auxiliary:
            assert agent.memory is not None
            disabled = agent.memory.predictors_disabled
            found = torch.ones_like(found) if disabled is None else found | torch.logical_not(disabled)
        return None if bool(found.all()) else found

    def _with_target(self, agent: str) -> torch.Tensor:
        """The members that there was a target for."""
        every = torch.ones(len(self.system.agents[agent].members), dtype=torch.bool)
        count = self.update.losses[agent].count
        return every & (count > 0).cpu() if isinstance(count, torch.Tensor) else every

    def _pass_on(self, part: AgentTick, members: torch.Tensor) -> None:
        """Add the senders of what was read with its graph."""
        if isinstance(part.participates, torch.Tensor):
            members = members & part.participates.view(len(members), -1)[:, 0].cpu()
        for entry in part.consumed:
            if entry.stamp is not None and part.participates is not False and entry.alive is not False:
                self._add_senders(entry.channel, entry.stamp, members, entry.alive)

    def _add_senders(self, name: str, stamp: int, receivers: Members, alive: EnvMask = True) -> None:
        """Note that a channel's senders are reached: through their receivers, or (None) by an injection."""
        channel = self.system.channels[name]
        key = channel.sender, stamp
        count = len(self.system.agents[channel.sender].members)
        found = self.by_tick.setdefault(key, torch.zeros(count, dtype=torch.bool))
        members = torch.ones(len(channel.members), dtype=torch.bool)
        if receivers is not None:
            members = receivers if channel.receiver_index is None else receivers[channel.receiver_index.cpu()]
            if isinstance(alive, torch.Tensor):
                members = members & channel.members_in(alive)
        else:  # nothing is injected where no injection is due, or the predictor is disabled
            silent = self.sent[name, stamp].no_injection
            if isinstance(silent, torch.Tensor):
                members = channel.members_in(torch.logical_not(silent))
            if channel.predictors_disabled is not None:
                members = members & torch.logical_not(channel.predictors_disabled)
        places = torch.arange(len(members)) if channel.sender_index is None else channel.sender_index.cpu()
        found[places[members]] = True
