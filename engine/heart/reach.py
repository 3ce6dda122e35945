"""Reach: the members of a stack that a learning signal reaches, and no others take an optimiser step.

An agent takes an optimiser step only where a gradient reaches it. The members of a stack share one gradient tensor, and an
agent beside stacks may be given zeros in place of none, so this follows from where signals were injected, where objectives
had a target, and what the window passed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Self

import torch
from torch import Tensor

from antiphon.base.mask import ALL, NONE, Mask, Members
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Update
from antiphon.engine.heart.window import Tick, WithGraph


class Reach:
    """The members of a system's stacks that learning signals reach."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._stacked = {
            group: [system.agents[name] for name in group.agent_count_by_learner]
            for group in system.groups
            if any(system.agents[name].has_member_axis for name in group.agent_names)
        }
        """The agents of the groups in which any is stacked."""
        self.indices_by_channel = {
            name: tuple(
                None if index is None else index.cpu()
                for index in (channel.endpoints.sender_index, channel.endpoints.receiver_index)
            )
            for name, channel in system.channels.items()
        }
        """By channel: the places of its members' senders and receivers, on the host."""

    @classmethod
    def of(cls, system: System) -> Self | None:
        """Return the reach of a system with stacks; None: it has none."""
        return cls(system) if any(agent.has_member_axis for agent in system.agents.values()) else None

    def after_differentiate(self, update: Update) -> None:
        """Let only those members of agents move that learn from an update, and that its signal reaches."""
        for agent in self._stacked.get(update.group, ()):
            learning = agent.layout.members_in(update.window.learning_rows_by_agent[agent.name])
            update.moving_members_by_learner[agent.name] = learning & self._reached(update, agent)

    def _reached(self, update: Update, agent: Agent) -> Mask[Members]:
        losses = update.window_loss.reported_loss_by_agent.get(agent.name)
        if losses is not None and not (agent.has_member_axis and isinstance(losses.target_count, Tensor)):
            return ALL
        for (name, _), injected_rows in update.injected_rows.items():
            channel = self.system.channels[name]
            if channel.sender != agent.name or channel.endpoints.sender_index is not None:
                continue  # not every member sends over it
            if injected_rows is ALL:
                return ALL
        return _WindowBackwards(self.system, update, self.indices_by_channel).of(agent)


class _WindowBackwards:
    """A window read backwards: the signals are followed from its end to its start."""

    def __init__(
        self, system: System, update: Update, indices_by_channel: Mapping[str, Sequence[Tensor | None]]
    ) -> None:
        self.system, self.update, self.indices_by_channel = system, update, indices_by_channel
        self.by_tick: dict[tuple[str, int], Tensor] = {}
        """By agent and step: the members reached, [N] bool."""
        for (name, stamp), injected_rows in update.injected_rows.items():
            self._add_senders(name, stamp, ALL, injected_rows)
        for tick in reversed(list(update.window.ticks())):
            key = tick.agent_name, tick.step
            if (tick.step, tick.agent_name) in update.window_loss.ticks_with_loss:
                reached = self.by_tick.get(key, torch.zeros((), dtype=torch.bool))
                self.by_tick[key] = reached | self._with_target(tick.agent_name)
            if key in self.by_tick:
                self._pass_on(tick, self.by_tick[key])

    def of(self, agent: Agent) -> Mask[Members]:
        """The members of a stack that are reached at some tick."""
        reached = torch.zeros(len(agent.members), dtype=torch.bool)
        for (name, _), members in self.by_tick.items():
            if name == agent.name:
                reached = reached | members
        if agent.name in self.update.agents_with_auxiliary_loss:
            return ALL
        return ALL if bool(reached.all()) else Mask.of(reached)

    def _with_target(self, agent: str) -> Tensor:
        every = torch.ones(len(self.system.agents[agent].members), dtype=torch.bool)
        count = self.update.window_loss.reported_loss_by_agent[agent].target_count
        return every & (count > 0).cpu() if isinstance(count, Tensor) else every

    def _pass_on(self, tick: Tick, members: Tensor) -> None:
        """Add the senders of what was read with its graph."""
        reached = Mask.of(members) & self.system.agents[tick.agent_name].layout.members_in(tick.learning_rows)
        state_reads = () if tick.state_read is None else (tick.state_read,)
        for read in chain(*tick.reads_by_channel, state_reads):
            if isinstance(read, WithGraph) and tick.learning_rows is not NONE and read.available is not NONE:
                self._add_senders(read.channel_name, read.stamp, reached, read.available)

    def _add_senders(self, name: str, stamp: int, receivers: Mask[Members], available: Mask) -> None:
        """Note that a channel's senders are reached where it is `available`: through their receivers, or (`ALL`) by an injection."""
        channel = self.system.channels[name]
        key = channel.sender, stamp
        senders, ends = self.indices_by_channel[name]
        count = len(self.system.agents[channel.sender].members)
        reached_at_tick = self.by_tick.setdefault(key, torch.zeros(count, dtype=torch.bool))
        if ends is not None:
            receivers = receivers.map(partial(torch.index_select, dim=0, index=ends))
        reached = receivers & channel.layout.members_in(available)
        members = reached.tensor(len(channel.members), reached_at_tick.device)
        reached_at_tick[members if senders is None else senders[members]] = True
