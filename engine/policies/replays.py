"""Evaluations of a window's ticks again, for some environments: messages from outside and observations are as they were.

Where nothing is handed from tick to tick, all ticks of an agent are one evaluation. Rows are (member, environment) in the
run; here a member's are (tick, environment) of the environments that are evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from antiphon.agents.network import STATE, VALUE, Tensors
from antiphon.base.mask import ALL, Mask
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.layout import select_rows
from antiphon.engine.heart.message import PassedOn, Read, Tick, Window
from antiphon.engine.policies.critics import Critics
from antiphon.engine.policies.trajectories import port_names, ports_of, rows_through


class Replay:
    """A window replayed for all environments, by the forward pass."""

    def __init__(self, window: Window, agents: Mapping[str, Agent], forward_pass: ForwardPass) -> None:
        self.agents = agents
        self._window, self._forward_pass = window, forward_pass
        self._ticks_of = _ticks_of(window)

    def ports(self, rows: Mapping[str, Tensor]) -> dict[str, Tensors]:
        """Return the ports that policies' losses are made of, [T, len(rows), …], by agent.

        Args:
            rows: Of each agent, as many of each member, member by member.
        """
        self._forward_pass.replay(self._window)
        return {
            agent: {name: port[:, rows[agent]] for name, port in ports_of(self.agents[agent], ticks).items()}
            for agent, ticks in self._ticks_of.items()
        }


class InTurn(Replay):
    """The ticks of an agent with a state that learns alone, one after the other, for some environments."""

    def __init__(self, window: Window, agents: Mapping[str, Agent], forward_pass: ForwardPass) -> None:
        super().__init__(window, agents, forward_pass)
        ((name, self._ticks),) = self._ticks_of.items()
        self._agent = agents[name]
        with torch.no_grad():
            start = window.statistics_before[name]
            self._inputs = torch.stack([forward_pass.inputs(tick, window, start) for tick in self._ticks])
            self._observed = _observed(self._agent, self._ticks, forward_pass, start)

    @staticmethod
    def obstacle(window: Window, agents: Mapping[str, Agent]) -> bool:
        """Whether it needs a replay for all environments."""
        agent = next(iter(agents.values()))
        state_channel, ticks = agent.connections.state_channel, _ticks_of(window)
        if len(agents) > 1 or state_channel is None or agent.learner.network.mixed() or len(ticks) != 1:
            return True
        in_order = state_channel.endpoints.sender_index is None is state_channel.endpoints.receiver_index
        return not in_order or any(
            isinstance(read, PassedOn) for tick in ticks[agent.name] for read in tick.reads
        )

    def ports(self, rows: Mapping[str, Tensor]) -> dict[str, Tensors]:
        """See `Replay.ports`."""
        agent, own = self._agent, rows[self._agent.name]
        start, state_channel = self._window.statistics_before[agent.name], agent.connections.state_channel
        assert state_channel is not None
        states: dict[int, Tensor] = {}
        found: dict[str, list[Tensor]] = {}
        for t, tick in enumerate(self._ticks):
            read = tick.state_read
            assert read is not None
            if isinstance(read, PassedOn):
                there = read.available.map(partial(torch.index_select, dim=0, index=own))
                state = there.fill(states[read.stamp])
            else:
                state = constant(read.value_in(self._window, state_channel))[own]
            ports = agent.learner.evaluate(start, self._inputs[t, own], state=state)[0]
            if self._observed is not None:
                ports[VALUE] = _values(agent, start, self._observed[t, own])
            states[tick.step] = ports[STATE]
            for name in port_names(agent):
                if name in ports:
                    found.setdefault(name, []).append(ports[name])
        return {agent.name: {name: torch.stack(each) for name, each in found.items()}}


@dataclass(slots=True)
class _Message:
    """What an agent reads over a stack of channels at all ticks: values, or messages made in the window."""

    channel: Channel
    value: Tensor | None
    """[T, K * B, size]; None: made in the window, by its sender at the same step."""
    available: Mask
    """Of T, K * B."""


@dataclass(slots=True)
class _Evaluation:
    """An agent and what it reads in a window."""

    agent: Agent
    inputs: Tensor | None
    """[T, rows, *input_shape], where nothing of it is made in the window."""
    observations: list[Tensor]
    """Else: [T, rows, …] each."""
    messages: list[_Message]
    observed: Tensor | None
    """[T, rows, …]: what its critic reads."""


class AllTicks(Replay):
    """All ticks of agents without a state, as one evaluation of each, for some environments."""

    def __init__(self, window: Window, agents: Mapping[str, Agent], forward_pass: ForwardPass) -> None:
        super().__init__(window, agents, forward_pass)
        self._evaluations = [self._evaluation(agents[name], ticks) for name, ticks in self._ticks_of.items()]
        self._ticks = len(next(iter(self._ticks_of.values())))

    @staticmethod
    def obstacle(window: Window, agents: Mapping[str, Agent]) -> bool:
        """Whether it needs a replay: something is handed from tick to tick, or is more than what a port holds."""
        if any(a.connections.state_channel is not None or a.learner.network.mixed() for a in agents.values()):
            return True
        by_agent = _ticks_of(window)
        steps = {tuple(tick.step for tick in ticks) for ticks in by_agent.values()}
        within = [
            (tick, read) for tick in window.ticks() for read in tick.reads if isinstance(read, PassedOn)
        ]
        if not within:
            return len(agents) > 1
        if len(steps) > 1 or any(len(call) > 1 for call in window.calls):
            return True
        if any(
            tick.participates is not ALL or AGE in agents[tick.agent].inputs.observes for tick, _ in within
        ):
            return True
        channels = {
            channel.name: channel for agent in agents.values() for channel in agent.connections.incoming
        }
        later = (read.stamp != tick.step or _changes(channels[read.channel]) for tick, read in within)
        return any(later) or any(
            len(tick.reads) != len(agents[tick.agent].connections.incoming) for tick in window.ticks()
        )

    def ports(self, rows: Mapping[str, Tensor]) -> dict[str, Tensors]:
        """See `Replay.ports`."""
        made: dict[str, Tensors] = {}
        found: dict[str, Tensors] = {}
        for each in self._evaluations:
            agent, own = each.agent, rows[each.agent.name]
            members, start = len(agent.members), self._window.statistics_before[agent.name]
            x = self._joined(each, own, made)
            ports = made[agent.name] = agent.learner.evaluate(start, x, state=None)[0]
            if each.observed is not None:
                ports[VALUE] = _values(agent, start, _by_member(each.observed, members, own))
            shape = members, self._ticks, len(own) // members
            found[agent.name] = {
                name: ports[name].view(*shape, *ports[name].shape[1:]).transpose(0, 1).flatten(1, 2)
                for name in port_names(agent)
                if name in ports
            }
        return found

    @torch.no_grad()
    def _evaluation(self, agent: Agent, ticks: list[Tick]) -> _Evaluation:
        forward_pass, start = self._forward_pass, self._window.statistics_before[agent.name]
        observed = _observed(agent, ticks, forward_pass, start)
        if not any(isinstance(read, PassedOn) for tick in ticks for read in tick.reads):
            inputs = torch.stack([forward_pass.inputs(tick, self._window, start) for tick in ticks])
            return _Evaluation(agent, inputs, [], [], observed)
        each = [forward_pass.observations(tick, start) for tick in ticks]
        observations = [torch.stack(values) for values in zip(*each, strict=True)]
        reads = zip(
            agent.connections.incoming, zip(*(tick.reads for tick in ticks), strict=True), strict=True
        )
        messages = [_message(*one, self._window) for one in reads]
        return _Evaluation(agent, None, observations, messages, observed)

    def _joined(self, each: _Evaluation, own: Tensor, made: Mapping[str, Tensors]) -> Tensor:
        """The network's input, of all members, ticks and some environments."""
        agent, members = each.agent, len(each.agent.members)
        if each.inputs is not None:
            return _by_member(each.inputs, members, own)
        batch = len(own) // members * self._ticks
        flat = len(agent.learner.network.input_shape) == 1
        messages, available = [], []
        for message in each.messages:
            channel, count = message.channel, len(message.channel.members)
            ends = rows_through(own, channel.endpoints.receiver_index, members, channel.batch)
            there = message.available.map(partial(_by_member, members=count, rows=ends))
            if message.value is None:
                port = made[channel.sender][channel.content.port]
                value = there.fill(select_rows(port, channel.endpoints.sender_index, batch).flatten(1))
            else:
                value = _by_member(message.value, count, ends)
            messages.append(value if flat else value.reshape(len(value), *channel.content.shape))
            available.append(there)
        observations = [_by_member(values, members, own) for values in each.observations]
        return agent.inputs.fan_in.join(observations, messages, available, batch)


def _message(channel: Channel, reads: tuple[Read, ...], window: Window) -> _Message:
    available = ALL
    if any(read.available is not ALL for read in reads):
        rows, device = len(channel.content.zeros), channel.content.zeros.device
        available = Mask.of(torch.stack([read.available.tensor(rows, device) for read in reads]))
    if isinstance(reads[0], PassedOn):
        return _Message(channel, None, available)
    values = [constant(read.value_in(window, channel)) for read in reads]
    return _Message(channel, torch.stack(values), available)


def _changes(channel: Channel) -> bool:
    """Whether what is read of a message, or its gradient, is not the sender's port."""
    link = channel.ledger.link
    spoilt = link.noisy or link.bits is not None or channel.content.sampler is not None
    return spoilt or channel.feedback.direct is not None or channel.feedback.weights is not None


def _ticks_of(window: Window) -> dict[str, list[Tick]]:
    """The ticks of each agent, in the order of its first one."""
    by_agent: dict[str, list[Tick]] = {}
    for tick in window.ticks():
        by_agent.setdefault(tick.agent, []).append(tick)
    return by_agent


def _observed(agent: Agent, ticks: list[Tick], forward_pass: ForwardPass, start: Tensors) -> Tensor | None:
    critics = forward_pass.features.of(Critics) if agent.inputs.critic_observes else None
    if critics is None:
        return None
    return torch.stack([critics.input(tick, start) for tick in ticks])


def _by_member(values: Tensor, members: int, rows: Tensor | None = None) -> Tensor:
    """[T, N * b, …], or some rows of it, as rows of the members, [N * T * b, …]."""
    values = values if rows is None else values[:, rows]
    each = values.view(len(values), members, -1, *values.shape[2:])
    return each.transpose(0, 1).reshape(-1, *values.shape[2:])


def _values(agent: Agent, start: Tensors, x: Tensor) -> Tensor:
    learner = agent.learner
    return learner.values(learner.parameters, start, x, training=not learner.frozen)[0]
