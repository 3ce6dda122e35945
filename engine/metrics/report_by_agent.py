"""What one step learned, by agent and channel: taken apart from what was learned by stack, only where it is read."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from antiphon.base.mask import ALL, Mask
from antiphon.comms.examples import Example
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.layout import name_in_seed
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import (
    Credit,
    GroupWindows,
    PredictorUpdate,
    ReportedLoss,
    StepReport,
    Update,
    WindowLoss,
    oldest_first,
)
from antiphon.engine.heart.window import LearningGroup, Window
from antiphon.engine.metrics.channel_means import CHANNEL_MEANS, ChannelMean
from antiphon.engine.policies.policy_window import policy_windows
from antiphon.engine.stacked import Stacked
from antiphon.telemetry.metrics import end_of


class AgentReport:
    """What was learned at one step, by agent and channel; stacks are taken apart only where it is read.

    Args:
        stacks: The report by stack; of several seeds, of all.
        stacked: The stacks, and the single agents that it is about.
    """

    def __init__(self, stacks: StepReport, stacked: Stacked) -> None:
        self._stack_report, self._stacked = stacks, stacked

    def __repr__(self) -> str:
        agents = [name for update in self.updates for name in update.gradients_by_learner]
        learned = ", ".join([*agents, *self.predictor_updates, *self.input_updates])
        return shorten(f"<AgentReport: updates of {learned or 'none'}", 119, placeholder=" …") + ">"

    @classmethod
    def empty(cls, stacked: Stacked) -> AgentReport:
        """Return the report of a step at which nothing was learned."""
        return cls(StepReport([], {}), stacked)

    @property
    def system(self) -> System:
        """The stacks, after the step."""
        return self._stacked.system

    def seen_by(self, stacked: Stacked) -> AgentReport:
        """Return the same report, about the single agents of one of several seeds."""
        return AgentReport(self._stack_report, stacked)

    @cached_property
    def stacks(self) -> StepReport:
        """By stack; of one of several seeds by agent and channel, which it has no stacks of."""
        if self._stacked.system.seed_count == 1:
            return self._stack_report
        return StepReport(self.updates, self.predictor_updates, self.input_updates, self.skipped_windows)

    @cached_property
    def updates(self) -> list[Update]:
        """Updates by learning group of single agents."""
        return [single for update in self._stack_report.updates for single in self._by_group(update)]

    def newest_injected(self, channel: str) -> Credit | None:
        """Return what the newest window that this step learned from was injected with on a single channel; None: nothing."""
        stack, place = self._stacked.channel_of(channel)
        newest = None
        for update in oldest_first(self._stack_report.updates):
            if (injected := update.newest_injected_by_channel.get(stack.name)) is not None:
                newest = _injected_by_place(stack, injected)[place] or newest
        return newest

    @cached_property
    def predictor_updates(self) -> dict[str, PredictorUpdate]:
        """Updates of synthetic gradients' models, by channel."""
        return self._of_channels(self._stack_report.predictor_updates)

    @cached_property
    def input_updates(self) -> dict[str, PredictorUpdate]:
        """Updates of synthetic inputs' models, by channel."""
        return self._of_channels(self._stack_report.input_updates)

    @cached_property
    def skipped_windows(self) -> GroupWindows:
        """Windows that ended and were not learned from, by learning group of single agents; each has its number alone."""
        return [
            (single, Window(window.number))
            for group, window in self._stack_report.skipped_windows
            for single in self._stacked.groups_of(group)
        ]

    def _of_channels(self, updates: Mapping[str, PredictorUpdate]) -> dict[str, PredictorUpdate]:
        by_channel: dict[str, PredictorUpdate] = {}
        for name, update in updates.items():
            channel = self._stacked.system.channels[name]
            by_channel |= (
                self._by_channel(channel, update)
                if channel.has_member_axis
                else {channel.member_names[0]: update}
            )
        return {name: by_channel[name] for name in self._stacked.single_system.channels if name in by_channel}

    def by_stack(self) -> Iterator[tuple[Agent, ReportedLoss, dict[str, Tensor]]]:
        """Yield what the windows that ended report: a stack, of all seeds, the losses of its objective, [N], and its policy's metrics.

        The metrics are by name, [N] each: see `PolicyLosses`. A member without a target has NaN; without a policy there are none.
        """
        for update in self._stack_report.updates:
            policies = policy_windows(update.window_loss) if update.window_loss.notes else {}
            for name, losses in update.window_loss.reported_loss_by_agent.items():
                metrics = policies[name].metrics if name in policies else {}
                if metrics and isinstance(losses.target_count, Tensor):
                    absent = losses.target_count == 0
                    metrics = {key: value.masked_fill(absent, math.nan) for key, value in metrics.items()}
                yield self._stacked.system.agents[name], losses, metrics

    def losses(self) -> Iterator[tuple[tuple[str, ...], ReportedLoss]]:
        """Yield the objectives' losses: the names of single agents that are of one stack, and their losses."""
        for agent, losses, _ in self.by_stack():
            names = tuple(single.name for _, single in self._stacked.singles(agent))
            yield names, losses.select_members(self._stacked.places_of(agent))

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return the metrics of policies whose window ended, by agent and name; see `PolicyLosses`."""
        return {
            single.name: {name: float(values[n]) for name, values in metrics.items()}
            for agent, _, metrics in self.by_stack()
            if metrics
            for n, single in self._stacked.singles(agent)
        }

    figures = metrics
    """The name that earlier scripts call it by."""

    def _by_channel(self, channel: Channel, update: PredictorUpdate) -> dict[str, PredictorUpdate]:
        predictions = None if update.prediction is None else torch.split(update.prediction, channel.batch)
        count = len(channel.members)
        return {
            single.name: PredictorUpdate(
                [
                    _example_of(example, channel.batch, k)
                    for example in update.examples
                    if example.member_mask.tensor(count, "cpu")[k]
                ],
                update.loss[k],
                [],
                None if predictions is None else predictions[k],
                for_input=update.for_input,
            )
            for k, single in self._stacked.singles(channel)
            if update.moving_members.tensor(count, "cpu")[k]
        }

    def _by_group(self, update: Update) -> Iterator[Update]:
        base, agents = self._stacked.single_system, self._stacked.system.agents
        if not any(agents[name].has_member_axis for name in update.group.agent_names):
            yield update
            return
        updates: dict[LearningGroup, Update] = {}
        for name in update.group.agent_names:
            agent = agents[name]
            losses = update.window_loss.reported_loss_by_agent.get(name)
            learning = update.window.learning_rows_by_agent[name]
            participating = agent.layout.members_in(learning).tensor(len(agent.members), "cpu")
            for n, member in self._stacked.singles(agent):
                group = base.group_by_agent[member.name]
                if group not in updates:
                    updates[group] = Update(group, update.window, window_loss=WindowLoss())
                single = updates[group]
                if not participating[n]:
                    continue
                if name in update.gradients_by_learner:
                    single.gradients_by_learner[member.name] = [
                        g[n] if agent.has_member_axis and g is not None else g
                        for g in update.gradients_by_learner[name]
                    ]
                count = (
                    1
                    if losses is None or not isinstance(losses.target_count, Tensor)
                    else losses.target_count[n]
                )
                if losses is not None and bool(count):
                    single.window_loss.reported_loss_by_agent[member.name] = losses.select_members([n])
        for name, injected in update.newest_injected_by_channel.items():
            channel = self._stacked.system.channels[name]
            credits_by_place = _injected_by_place(channel, injected)
            for k, lone in self._stacked.singles(channel):
                if (credit := credits_by_place[k]) is not None:
                    single = updates[base.group_by_agent[lone.sender]]
                    single.newest_injected_by_channel[lone.name] = credit
        yield from updates.values()


def _injected_by_place(stack: Channel, injected: Credit) -> list[Credit | None]:
    """Return what a stack of channels was injected with, by place; None: nothing."""
    gradients = torch.split(injected.gradient, stack.batch)
    of_all = injected.rows.tensor(len(injected.gradient), injected.gradient.device)
    rows = torch.split(of_all, stack.batch)
    injecting = stack.layout.members_in(injected.rows).tensor(len(stack.members), "cpu").tolist()
    return [
        Credit(gradient, ALL if injected.rows is ALL else Mask.of(of_rows)) if injects else None
        for gradient, of_rows, injects in zip(gradients, rows, injecting, strict=True)
    ]


class LossesByAgent(UserDict[str, Tensor]):
    """The losses of a step by agent, of those that there was a target for; taken apart when it is read."""

    def __init__(self, report: AgentReport) -> None:
        self._report = report

    @cached_property
    def data(self) -> dict[str, Tensor]:  # type: ignore[override]
        losses_by_agent: dict[str, Tensor] = {}
        for names, losses in self._report.losses():
            count = losses.target_count
            counts = count.tolist() if isinstance(count, Tensor) else [count] * len(names)
            losses_by_agent |= {
                n: v for n, v, c in zip(names, losses.loss.unbind(), counts, strict=True) if c
            }
        return losses_by_agent


# --- means over steps ----------------------------------------------------------------------------------------

Sums = tuple[Tensor, Tensor, int | Tensor]
"""Sums of the loss, of the metric, and of the targets that both are over."""


MetricSums = tuple[Tensor, Tensor]
"""Sums of policies' metrics over windows, and how many of these were finite, [N, metrics] each."""

ChannelSums = dict[str, dict[tuple[str, ...], tuple[Tensor, Tensor]]]
"""What channels have done, by the metric that follows, and by the members of a stack: a sum, and the number of what it is over, [K] each."""


def _stacked(totals: dict[tuple[str, ...], Any], agents: tuple[str, ...]) -> Any:
    """Return the sums of a stack; those of single agents, as they are in a checkpoint, are stacked first. None: there are none."""
    if agents in totals or len(agents) == 1:
        return totals.get(agents)
    sums_by_agent = [totals.pop((name,), None) for name in agents]
    newest = next((sums for sums in sums_by_agent if sums is not None), None)
    if newest is None:
        return None
    like = [torch.as_tensor(value, device=newest[0].device) for value in newest]
    nothing = [torch.zeros_like(value).view(1, *value.shape[1:]) for value in like]
    columns = zip(*(nothing if sums is None else sums for sums in sums_by_agent), strict=True)
    return tuple(
        torch.cat([torch.as_tensor(value).to(zero).view_as(zero) for value in column])
        for column, zero in zip(columns, nothing, strict=True)
    )


def _measures(system: System, channel: Channel, mean: ChannelMean) -> bool:
    """Whether a channel has a mean over steps here; in parts one end may be elsewhere."""
    return mean.concerns(channel) and getattr(channel, end_of(mean.metric)) in system.agents


class MeanAccumulator:
    """Sums of loss and metric per agent, of policies' metrics, and of what channels do (channel_means.py), kept on the device.

    Args:
        *other_seeds: The systems of other seeds; of several, agents are `name@seed` here.
    """

    def __init__(self, system: System, *other_seeds: System) -> None:
        systems = (system, *other_seeds)
        self._agents = {
            name_in_seed(name, seed, len(systems)): agent
            for seed, system_of_seed in enumerate(systems)
            for name, agent in system_of_seed.agents.items()
        }
        self._channel_names = {
            name_in_seed(name, seed, len(systems)): None
            for seed, system_of_seed in enumerate(systems)
            for name, channel in system_of_seed.channels.items()
            if any(_measures(system_of_seed, channel, mean) for mean in CHANNEL_MEANS)
        }
        """The channels in order that have a mean here."""
        self._measured: tuple[System | None, list[tuple[Channel, list[ChannelMean]]]] = None, []
        """The stacks of the newest report, and of these the channels with means."""
        self._batch = system.batch
        self._sums: dict[tuple[str, ...], Sums] = {}
        """Sums by agents: one, or the members of a stack ([N] each)."""
        self._metrics: dict[tuple[str, ...], MetricSums] = {}
        self._names: dict[tuple[str, ...], list[str]] = {}
        """The names of policies' metrics, by agents."""
        self._channel_sums: ChannelSums = {}
        self._row: tuple[Any, Any] = ({}, {})
        """Sums of the last complete row."""
        self._channel_row: ChannelSums = {}

    def __repr__(self) -> str:
        return f"<MeanAccumulator of {len(self._agents)} agents>"

    def add(self, report: AgentReport, step: int) -> None:
        """Add the losses of the step just taken, and what its channels have done."""
        for channel, means in self._measured_channels(report.system):
            for mean in means:
                if (added := mean.of_step(channel, step)) is not None:
                    of_metric = self._channel_sums.setdefault(mean.metric, {})
                    before = _stacked(of_metric, channel.member_names)
                    total = added if before is None else (before[0] + added[0], before[1] + added[1])
                    of_metric[channel.member_names] = total
        for agent, losses, metrics in report.by_stack():
            agents = agent.member_names
            assert agent.goal is not None
            before, loss = _stacked(self._sums, agents), losses.before_scale(agent.goal, self._batch)
            if before is None:
                self._sums[agents] = (loss, losses.score, losses.target_count)
            else:
                sums = torch._foreach_add(before[:2], [loss, losses.score])
                self._sums[agents] = (sums[0], sums[1], before[2] + losses.target_count)
            if not metrics:
                continue
            self._names[agents] = list(metrics)
            values = torch.stack(tuple(metrics.values()), 1)
            finite, earlier = values.isfinite(), _stacked(self._metrics, agents) or (0.0, 0)
            self._metrics[agents] = earlier[0] + values.where(finite, 0.0), earlier[1] + finite

    def _measured_channels(self, system: System) -> list[tuple[Channel, list[ChannelMean]]]:
        """The stacks of channels that have means over steps, found once."""
        if self._measured[0] is not system:
            pairs = [
                (channel, [mean for mean in CHANNEL_MEANS if _measures(system, channel, mean)])
                for channel in system.channels.values()
            ]
            self._measured = system, [(channel, means) for channel, means in pairs if means]
        return self._measured[1]

    def means(self) -> dict[str, dict[str, float]]:
        """Return `loss` and the objective's metric by agent, means over all ticks and environments with a target.

        Also the metrics of policies, means over windows.
        """
        return self._means(self._sums, self._metrics)

    def _means(self, *sums: Any) -> dict[str, dict[str, float]]:
        means: dict[str, dict[str, float]] = {}
        for name, (loss, score, samples, *of_policies) in self._by_agent(*sums).items():
            goal = self._agents[name].goal
            assert goal is not None
            if samples:
                mean = loss.item() * self._batch / samples
                means[name] = {"loss": mean} | goal.objective.means(score, samples)
                for policy_sums in of_policies:  # of what was ever finite
                    columns = zip(
                        policy_sums["names"],
                        policy_sums["sums"].tolist(),
                        policy_sums["counts"].tolist(),
                        strict=True,
                    )
                    means[name] |= {metric: total / count for metric, total, count in columns if count}
        return means

    def _by_agent(
        self, sums: Mapping[tuple[str, ...], Sums], metrics: Mapping[tuple[str, ...], MetricSums]
    ) -> dict[str, list[Any]]:
        """Sums by agent, as they are in a checkpoint: loss, score, count, and where there are any those of a policy's metrics."""
        of_policies = {
            name: {"names": self._names[agents], "sums": sums[n], "counts": counts[n]}
            for agents, (sums, counts) in metrics.items()
            for n, name in enumerate(agents)
        }
        sums_by_agent: dict[str, list[Any]] = {}
        for agents, (loss, score, count) in sums.items():
            counts_by_agent = count.view(-1).tolist() if isinstance(count, Tensor) else [count] * len(agents)
            for n, name in enumerate(agents):
                if len(agents) == 1 or counts_by_agent[n]:
                    sums_by_agent[name] = [
                        loss[n],
                        score[n],
                        counts_by_agent[n],
                        *filter(None, [of_policies.get(name)]),
                    ]
        return {name: sums_by_agent[name] for name in self._agents if name in sums_by_agent}

    def end_row(self) -> None:
        """Complete a row and reset the sums."""
        self._row, self._channel_row = (self._sums, self._metrics), self._channel_sums
        self._sums, self._metrics, self._channel_sums = {}, {}, {}

    def row(self) -> dict[str, dict[str, float]]:
        return self._means(*self._row)

    def channel_row(self) -> dict[str, dict[str, float]]:
        """Return the means of the last complete row by channel and metric, of those with anything to take a mean of."""
        means: dict[str, dict[str, float]] = {}
        for name, metrics in self._by_channel(self._channel_row).items():
            for metric, (total, count) in metrics.items():
                if count:
                    means.setdefault(name, {})[metric] = float(total) / float(count)
        return means

    def _by_channel(self, sums: ChannelSums) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
        by_channel: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        for metric, sums_of_stacks in sums.items():
            for names, columns in sums_of_stacks.items():
                for name, total, count in zip(names, *columns, strict=True):
                    by_channel.setdefault(name, {})[metric] = total, count
        return {name: by_channel[name] for name in self._channel_names if name in by_channel}

    def sums(self) -> dict[tuple[str, ...], tuple[Any, ...]]:
        """Return the sums by stack, those of channels behind the name of their metric, without a copy of a tensor."""
        of_channels = {
            (metric, *names): sums
            for metric, sums_of_stacks in self._channel_sums.items()
            for names, sums in sums_of_stacks.items()
        }
        return {**self._sums, **of_channels}

    def load_sums(self, sums: Mapping[tuple[str, ...], tuple[Any, ...]]) -> None:
        """Load sums by stack; the tensors are used as they are."""
        self._sums, self._channel_sums = {}, {}
        for names, values in sums.items():
            if names[-1] in self._channel_names:
                self._channel_sums.setdefault(names[0], {})[names[1:]] = values
            else:
                self._sums[names] = values

    def state_dict(self) -> dict[str, Any]:
        """Return the sums by agent and channel, without copying a tensor."""
        of_channels = {
            name: {m: [*s] for m, s in sums.items()}
            for name, sums in self._by_channel(self._channel_sums).items()
        }
        return {**self._by_agent(self._sums, self._metrics), **of_channels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums of the agents and channels that are here.

        Older checkpoints have single numbers, the count as a tensor too where a signal marks targets.
        """
        self._sums, self._metrics, self._channel_sums = {}, {}, {}
        for name in filter(state.__contains__, self._channel_names):
            for metric, (total, count) in state[name].items():
                self._channel_sums.setdefault(metric, {})[name,] = total.reshape(1), count.reshape(1)
        for name in filter(state.__contains__, self._agents):
            loss, score, count, *of_policies = state[name]
            self._sums[name,] = (loss.reshape(1), score.unsqueeze(0), int(count))
            for policy_sums in of_policies:
                self._names[name,] = policy_sums["names"]
                self._metrics[name,] = policy_sums["sums"].unsqueeze(0), policy_sums["counts"].unsqueeze(0)


def _example_of(example: Example, batch: int, member: int) -> Example:
    rows_of_member = example.mapped(lambda rows: rows[member * batch : (member + 1) * batch])
    return replace(rows_of_member, member_mask=ALL, learned=None)
