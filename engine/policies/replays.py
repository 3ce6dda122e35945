"""Evaluations of a window's ticks again, for some environments: messages from outside and observations are as they were.

Rows are (member, environment) in the run; here a member's are (tick, environment) of the environments that are evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from antiphon.agents.network import HIDDEN, VALUE, Tensors
from antiphon.agents.policy_passes import PassConstants
from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.backward_requests import Slopes, constant
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.forward import ForwardPass, joined
from antiphon.engine.heart.window import Read, Tick, Window, WithGraph
from antiphon.engine.policies.critics import Critics
from antiphon.engine.policies.minibatch_rows import by_member, rows_through
from antiphon.engine.policies.policy_evaluator import PolicyEvaluator, port_names, ports_of
from antiphon.engine.policies.policy_window import PolicyWindow
from antiphon.engine.policies.resent_messages import ResentMessages


@dataclass(frozen=True, slots=True)
class Minibatch:
    """What a further pass is over."""

    epoch: int
    rows: Mapping[str, Tensor]
    """Each agent's rows, as many of each member, member by member."""
    constants: Mapping[str, PassConstants]
    """Each policy's constants; empty where they come with the windows that are drawn."""


class Replay:
    """A window replayed for all environments, by the forward pass."""

    def __init__(self, window: Window, agents: Mapping[str, Agent], forward_pass: ForwardPass) -> None:
        self.agents = agents
        self._window, self._forward_pass = window, forward_pass
        self._ticks_of = _ticks_of(window)

    def constants(
        self, policies: Mapping[str, PolicyWindow], passes: Sequence[Mapping[str, Tensor]]
    ) -> list[dict[str, PassConstants]]:
        """Return the constants of policies in minibatches, by agent, made at once.

        Args:
            policies: By agent, what the first pass computed.
            passes: Of each minibatch the rows: see `ports`.
        """
        constants_by_pass: list[dict[str, PassConstants]] = [{} for _ in passes]
        for name, policy in policies.items():
            agent, log_prob = self.agents[name], policy.first_pass_losses.log_prob
            assert agent.goal is not None
            assert agent.policy is not None
            constants_of_agent = PassConstants.of_parts(
                *(policy.trajectory.actions, log_prob, policy.advantages),
                *(agent.goal.weight, len(agent.members)),
                agent.policy.slope_factors,
                [rows[name] for rows in passes],
            )
            for by_agent, constants in zip(constants_by_pass, constants_of_agent, strict=True):
                by_agent[name] = constants
        return constants_by_pass

    def slopes(
        self, evaluator: PolicyEvaluator, policies: Mapping[str, PolicyWindow], minibatch: Minibatch
    ) -> list[Slopes]:
        """Return the slopes of a further pass, in the order of the policies.

        Args:
            policies: By agent, what the first pass computed.
        """
        rows, ports = minibatch.rows, self.ports(minibatch.rows)
        return [
            evaluator.further(self.agents[name], policy, rows[name], minibatch.constants[name], ports[name])
            for name, policy in policies.items()
        ]

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


ReplayedMessages = Callable[[Tensor], Tensor]
"""Returns the messages that a channel carries in a replay, [K * T * b, size], for its rows [K * b]."""


@dataclass(slots=True)
class _Pass:
    """A replay for some environments."""

    rows: Mapping[str, Tensor]
    ends: dict[str, Tensor]
    """Rows of each channel that is read, as many of each member."""
    replayed_messages: dict[str, Tensor]
    """By channel whose sender is replayed too: its messages, [K, T, b, size]."""
    ports_by_key: dict[tuple[str, int], Tensors] = field(default_factory=dict)
    """By the key of each evaluation so far: its ports."""
    selected: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    """By agent and `id` of what is observed at all ticks: its rows of the replay, which network and critic may share."""

    def select(self, agent: Agent, observed: Tensor) -> Tensor:
        """Return an agent's rows of what it observes at some ticks, [T, N * B, …], as rows of its members."""
        key = agent.name, id(observed)
        if key not in self.selected:
            self.selected[key] = by_member(observed, len(agent.members), self.rows[agent.name])
        return self.selected[key]


@dataclass(slots=True)
class _ReplayedMessage:
    """What an agent reads over a stack of channels at some ticks: constants, and messages sent in the window."""

    channel: Channel
    constants: Tensor | None
    """[C, K * B, size]; None: none."""
    resent: ResentMessages | None
    """Those that are sent in the window and read in it."""
    order: Tensor | None
    """[T]: the place of what each tick reads among the constants, followed by those sent in the window; None: all in order."""
    available: Mask
    """Where a message is present, [T, K * B]."""
    sent_by: tuple[str, int] = ("", 0)
    """The evaluation that makes those sent in the window: see `_ReplayedTicks.key`."""
    replayed_messages: slice | None = None
    """The ticks of a sender that is replayed beside the receiver, whose messages are read; None: those above are."""

    def read(self, this_pass: _Pass) -> tuple[Tensor, Mask]:
        """Return what is read, [K * T * b, size], and where there is a message; zeros elsewhere."""
        rows, members = this_pass.ends[self.channel.name], len(self.channel.members)
        available = self.available.map(partial(by_member, members=members, rows=rows))
        return self.channel.entering(self._values(this_pass, rows), available), available

    def _values(self, this_pass: _Pass, rows: Tensor) -> Tensor:
        channel, count = self.channel, len(self.channel.members)
        if self.replayed_messages is not None:
            return this_pass.replayed_messages[channel.name][:, self.replayed_messages].flatten(0, 2)
        parts = [] if self.constants is None else [by_member(self.constants, count, rows)]
        if self.resent is not None:
            port = this_pass.ports_by_key[self.sent_by][channel.content.port_name]
            parts.append(self.resent.received(self.resent.outputs(port, rows), rows))
        if self.order is None:
            return parts[0]
        by_tick = torch.cat(
            [part.view(count, -1, len(rows) // count, channel.content.size) for part in parts], 1
        )
        return by_tick.index_select(1, self.order).flatten(0, 2)


@dataclass(slots=True)
class _ReplayedTicks:
    """An agent, some of its ticks that are evaluated together, and what it reads at them."""

    agent: Agent
    key: tuple[str, int]
    """The agent's name, and the step of the first tick."""
    ticks: int
    inputs: Tensor | None
    """[T, rows, *input_shape], where nothing of it is made in the window."""
    observations: list[Tensor]
    """The observations where `inputs` is None, [T, rows, …] each."""
    messages: list[_ReplayedMessage]
    state: _ReplayedMessage | None
    """What an agent with a state reads of the tick before; None: it has no state."""


@dataclass(slots=True)
class _Outputs:
    """Agents that share their learner, and what is evaluated for all ticks at once, since nothing of the window reads it."""

    agents: list[Agent]
    steps: dict[str, list[int]]
    """Steps of each agent's evaluations."""
    kept: list[str]
    """The ports of its evaluations that are asked for, or that `heads` are made from."""
    heads: list[str]
    """The heads that are not evaluated in turn."""
    observed: list[Tensor]
    """[T, rows, …] of each agent: what its critic reads; empty: there is no critic."""


class SomeRows(Replay):
    """A window's ticks for some environments: all ticks of a learner are one evaluation, or each is one, in turn.

    In turn are the ticks of agents whose state or messages of the window come back to them, and of those that read them.

    Args:
        replayed_messages: By channel whose sender is replayed too: its messages.
    """

    def __init__(
        self,
        window: Window,
        agents: Mapping[str, Agent],
        forward_pass: ForwardPass,
        replayed_messages: Mapping[str, ReplayedMessages] | None = None,
    ) -> None:
        super().__init__(window, agents, forward_pass)
        self._replayed_messages = replayed_messages or {}
        first = _senders_first(self._ticks_of, agents)
        self._at_once = {name for call in first for name in call}
        calls = [[self._ticks_of[name] for name in call] for call in first]
        calls += [
            [[tick] for tick in call if tick.agent_name not in self._at_once] for call in window.ticks_by_call
        ]
        self._calls = [
            [self._evaluation(agents[ticks[0].agent_name], ticks) for ticks in call] for call in calls if call
        ]
        self._without = dict[str, frozenset[str]]()
        """By agent: the heads that its evaluations leave out."""
        by_learner = dict[tuple[int, bool], list[Agent]]()
        for name in self._ticks_of:
            key = id(agents[name].learner), name in self._at_once
            by_learner.setdefault(key, []).append(agents[name])
        self._outputs = [self._outputs_of(sharing) for sharing in by_learner.values()]

    @staticmethod
    def obstacle(window: Window, agents: Mapping[str, Agent]) -> bool:
        """Whether it needs a replay for all environments: rows depend on each other, or reads are more than ports."""
        if any(agent.learner.network.row_split_obstacle() for agent in agents.values()):
            return True
        for name, ticks in _ticks_of(window).items():
            reads_within, incoming = list(_reads_with_graph(ticks)), agents[name].connections.incoming
            reads_state = agents[name].connections.state_channel is not None and len(agents) > 1
            if (reads_within or reads_state) and any(tick.learning_rows is not ALL for tick in ticks):
                return True
            if reads_within and any(channel.wire.timetable.read_mode.slots > 1 for channel in incoming):
                return True
            if reads_within and any(len(reads) > 1 for tick in ticks for reads in tick.reads_by_channel):
                return True
        return False

    def ports(self, rows: Mapping[str, Tensor]) -> dict[str, Tensors]:
        this_pass = self._pass(rows)
        for call in self._calls:
            for evaluation, ports in zip(call, self._evaluated(call, this_pass), strict=True):
                this_pass.ports_by_key[evaluation.key] = ports
        return {
            agent.name: {
                name: self._by_tick(agent, ports[name]) for name in port_names(agent) if name in ports
            }
            for outputs in self._outputs
            for agent, ports in zip(outputs.agents, self._of_all_ticks(outputs, this_pass), strict=True)
        }

    def _of_all_ticks(self, outputs: _Outputs, this_pass: _Pass) -> list[Tensors]:
        """The ports of each agent, [N * T * b, …]."""
        learner, start = outputs.agents[0].learner, self._start(outputs.agents[0])
        kept_ports = list[Tensors]()
        for agent in outputs.agents:
            evaluated = [this_pass.ports_by_key[agent.name, step] for step in outputs.steps[agent.name]]
            kept_ports.append(
                {
                    name: _of_ticks([ports[name] for ports in evaluated], len(agent.members))
                    for name in outputs.kept
                }
            )
        joint_ports = Tensors()
        if outputs.heads:
            hidden = joined([ports[HIDDEN] for ports in kept_ports])
            joint_ports = learner.from_hidden(start, hidden, outputs.heads)
        if outputs.observed:
            observed = joined([*map(this_pass.select, outputs.agents, outputs.observed)])
            joint_ports[VALUE] = learner.values(
                learner.parameters, start, observed, training=not learner.frozen
            )[0]
        row_counts = [
            len(this_pass.rows[agent.name]) * len(self._ticks_of[agent.name]) for agent in outputs.agents
        ]
        return [
            kept | of_agent
            for kept, of_agent in zip(kept_ports, _split_by_agent(joint_ports, row_counts), strict=True)
        ]

    def _by_tick(self, agent: Agent, port: Tensor) -> Tensor:
        """A port at all ticks, [T, N * b, …], of [N * T * b, …]."""
        members, ticks = len(agent.members), len(self._ticks_of[agent.name])
        if members == 1:
            return port.view(ticks, -1, *port.shape[1:])
        return port.view(members, ticks, -1, *port.shape[1:]).transpose(0, 1).flatten(1, 2)

    @torch.no_grad()
    def _outputs_of(self, agents: list[Agent]) -> _Outputs:
        """Divide the outputs of agents that share their learner into those of each evaluation and those for all ticks at once.

        An agent has a state, a message that is read within the window, and linear heads for its policy and for another port. Its
        ticks are evaluated in turn, each with the head of the message. The policy's is evaluated once, on the hidden values of
        all ticks, and the other one, which nobody asks for, never. Of ticks that are one evaluation, that has the policy's too.
        """
        names, network = {agent.name for agent in agents}, agents[0].learner.network
        evaluations = [
            evaluation for call in self._calls for evaluation in call if evaluation.agent.name in names
        ]
        steps: dict[str, list[int]] = {name: [] for name in names}
        for evaluation in evaluations:
            steps[evaluation.agent.name].append(evaluation.key[1])
        start = self._start(agents[0])
        inputs = {evaluation.agent.name: evaluation.inputs for evaluation in evaluations}
        observed = [
            _observed(agent, self._ticks_of[agent.name], self._forward_pass, start, inputs.get(agent.name))
            for agent in agents
        ]
        critic_observed = [values for values in observed if values is not None]
        asked = [
            name
            for name in dict.fromkeys(name for agent in agents for name in port_names(agent))
            if name in network.heads and not (critic_observed and name == VALUE)
        ]
        separable = network.linear_heads.keys() - self._ports_read_of(names)
        in_turn = agents[0].name not in self._at_once
        heads = [name for name in asked if in_turn and name in separable]
        kept = [name for name in asked if name not in heads] + ([HIDDEN] if heads else [])
        self._without |= dict.fromkeys(names, frozenset(separable.difference(kept)))
        return _Outputs(agents, steps, kept, heads, critic_observed)

    def _ports_read_of(self, senders: Container[str]) -> set[str]:
        return {
            message.channel.content.port_name
            for call in self._calls
            for evaluation in call
            for message in evaluation.messages
            if message.resent is not None and message.channel.sender in senders
        }

    def _pass(self, rows: Mapping[str, Tensor]) -> _Pass:
        ends = {
            channel.name: rows_through(
                rows[name], channel.endpoints.receiver_index, len(agent.members), channel.batch
            )
            for name, agent in self.agents.items()
            for channel in agent.connections.read_channels
        }
        replayed = {}
        for name, messages in self._replayed_messages.items():
            values, channel = messages(ends[name]), self._forward_pass.system.channels[name]
            count = len(channel.members)
            replayed[name] = values.view(count, -1, len(ends[name]) // count, channel.content.size)
        return _Pass(rows, ends, replayed)

    def _evaluated(self, call: Sequence[_ReplayedTicks], this_pass: _Pass) -> list[Tensors]:
        """The ports of the agents of a call, which share their learner."""
        first, start = call[0].agent, self._start(call[0].agent)
        inputs = [self._network_input(evaluation, this_pass) for evaluation in call]
        states = [evaluation.state.read(this_pass)[0] for evaluation in call if evaluation.state is not None]
        state, without = joined(states) if states else None, self._without[first.name]
        ports = first.learner.evaluate(start, joined(inputs), state=state, without=without)[0]
        return _split_by_agent(ports, [*map(len, inputs)])

    def _start(self, agent: Agent) -> Tensors:
        """The running statistics of an agent's learner at the window's start."""
        return self._forward_pass.window_statistics(agent, self._window, agent.learner.buffers)

    @torch.no_grad()
    def _evaluation(self, agent: Agent, ticks: list[Tick]) -> _ReplayedTicks:
        forward_pass, start = self._forward_pass, self._start(agent)
        key, state = (agent.name, ticks[0].step), None
        if ticks[0].state_read is not None:
            assert agent.connections.state_channel is not None
            state = self._message(agent.connections.state_channel, (ticks[0].state_read,))
        reads_replayed = any(
            channel.name in self._replayed_messages for channel in agent.connections.incoming
        )
        if not reads_replayed and not any(_reads_with_graph(ticks)):
            inputs_by_tick = [
                forward_pass.joined_input(tick, self._window, start)
                if tick.network_input is None
                else tick.network_input
                for tick in ticks
            ]
            inputs = torch.stack(inputs_by_tick)
            return _ReplayedTicks(agent, key, len(ticks), inputs, [], [], state)
        at_ticks = [forward_pass.observations(tick, start) for tick in ticks]
        observations = [torch.stack(values) for values in zip(*at_ticks, strict=True)]
        first_index = next(k for k, tick in enumerate(self._ticks_of[agent.name]) if tick is ticks[0])
        messages = [
            self._message(channel, tuple(read for (read,) in at_ticks), first_index)
            for channel, *at_ticks in zip(
                agent.connections.incoming, *(tick.reads_by_channel for tick in ticks), strict=True
            )
        ]
        return _ReplayedTicks(agent, key, len(ticks), None, observations, messages, state)

    def _message(self, channel: Channel, reads: tuple[Read, ...], first_index: int = 0) -> _ReplayedMessage:
        """What is read over a channel at ticks of its receiver, of which the first has this index among its ticks."""
        available = ALL
        if any(read.available is not ALL for read in reads):
            rows, device = len(channel.content.zeros), channel.content.zeros.device
            available = Mask.of(torch.stack([read.available.tensor(rows, device) for read in reads]))
        if channel.name in self._replayed_messages:
            of_ticks = slice(first_index, first_index + len(reads))
            return _ReplayedMessage(channel, None, None, None, available, replayed_messages=of_ticks)
        constant_reads = [read for read in reads if not isinstance(read, WithGraph)]
        stamps = sorted({read.stamp for read in reads if isinstance(read, WithGraph)})
        outputs = self._window.outputs_with_graph
        constants = [constant(read.value_in(outputs, channel, NONE)) for read in constant_reads]
        indices = [
            len(constants) + stamps.index(read.stamp)
            if isinstance(read, WithGraph)
            else constant_reads.index(read)
            for read in reads
        ]
        in_order = indices == list(range(len(reads))) and (not constants or not stamps)
        replayed = _ReplayedMessage(
            channel,
            torch.stack(constants) if constants else None,
            None,
            None if in_order else torch.tensor(indices, device=channel.content.zeros.device),
            available,
        )
        if stamps:
            sender = channel.sender
            ticks = [t for t in self._ticks_of[sender] if sender in self._at_once or t.step in stamps]
            replayed.resent = ResentMessages.of(channel, self.agents[sender], ticks, stamps)
            replayed.sent_by = sender, ticks[0].step
        return replayed

    def _network_input(self, evaluation: _ReplayedTicks, this_pass: _Pass) -> Tensor:
        agent, rows, members = (
            evaluation.agent,
            this_pass.rows[evaluation.agent.name],
            len(evaluation.agent.members),
        )
        if evaluation.inputs is not None:
            return this_pass.select(agent, evaluation.inputs)
        observations = [by_member(values, members, rows) for values in evaluation.observations]
        values_read = [[message.read(this_pass)] for message in evaluation.messages]
        return agent.join_input(observations, values_read, len(rows) // members * evaluation.ticks)


def _reads_with_graph(ticks: list[Tick]) -> Iterator[tuple[Tick, WithGraph]]:
    """The reads of ticks that are differentiated through a sender of the window."""
    return ((tick, read) for tick in ticks for read in tick.reads() if isinstance(read, WithGraph))


def _senders_first(ticks_of: Mapping[str, list[Tick]], agents: Mapping[str, Agent]) -> list[list[str]]:
    """The agents in an order in which what each reads of the window is made before; without those of a circle or with a state.

    Agents that share their learner are one call where nothing keeps them apart.
    """
    senders = {
        name: {
            channel.sender
            for channel in agents[name].connections.read_channels
            if channel.carries_state
            or any(read.channel_name == channel.name for _, read in _reads_with_graph(ticks))
        }
        for name, ticks in ticks_of.items()
    }
    order: list[list[str]] = []
    done = set[str]()
    while ready := [name for name in senders if name not in done and senders[name] <= done]:
        order.append([name for name in ready if agents[name].learner is agents[ready[0]].learner])
        done.update(order[-1])
    return order


def _ticks_of(window: Window) -> dict[str, list[Tick]]:
    """The ticks of each agent, in the order of its first one."""
    by_agent: dict[str, list[Tick]] = {}
    for tick in window.ticks():
        by_agent.setdefault(tick.agent_name, []).append(tick)
    return by_agent


def _observed(
    agent: Agent, ticks: list[Tick], forward_pass: ForwardPass, start: Tensors, inputs: Tensor | None
) -> Tensor | None:
    """What an agent's critic observes at all ticks, [T, rows, …]: `inputs` where its network has the same; None: it has no critic."""
    critics = forward_pass.features.of(Critics) if agent.inputs.critic_observed.signal_names else None
    if critics is None:
        return None
    observed = [critics.input(tick, start) for tick in ticks]
    if (
        inputs is not None
        and len(inputs) == len(ticks)
        and all(tick.network_input is values for tick, values in zip(ticks, observed, strict=True))
    ):
        return inputs
    return torch.stack(observed)


def _split_by_agent(ports: Tensors, counts: list[int]) -> list[Tensors]:
    """The ports of each agent of a call, of the numbers of their rows."""
    if len(counts) == 1:
        return [ports]
    by_port = {name: torch.split(port, counts) for name, port in ports.items()}
    return [{name: parts[k] for name, parts in by_port.items()} for k in range(len(counts))]


def _of_ticks(parts: list[Tensor], members: int) -> Tensor:
    """A port of all evaluations of an agent, [N * b, …] each or [N * T * b, …] of all ticks, as [N * T * b, …]."""
    if len(parts) == 1:
        return parts[0]
    return torch.stack([part.view(members, -1, *part.shape[1:]) for part in parts], 1).flatten(0, 2)
