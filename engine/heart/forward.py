"""Ticking: agents read, evaluate and send; a window's ticks can be replayed.

What `Engine.learn` says of branches on a step holds here too; what the host computes from a step is a `stamp_number`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE, VALUE
from antiphon.agents.observation_statistics import OF_CRITICS, OF_NETWORKS, normalised
from antiphon.agents.q_learning import QLearning
from antiphon.base.errors import ScenarioError
from antiphon.comms.backward_requests import as_leaf, constant
from antiphon.comms.couplings import ReadKind
from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import NetworkCall
from antiphon.engine.heart.contexts import Contexts, message_age
from antiphon.engine.heart.ends import Arrival, Sent
from antiphon.engine.heart.policies.acting import Acting
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import (
    NO_TICK_YET,
    Constant,
    CountedRead,
    LearningGroup,
    Read,
    Tick,
    Window,
    WithGraph,
    value_entering,
)
from antiphon.nets.layers import as_maps
from antiphon.nets.mask import ALL, NONE, Mask
from antiphon.nets.random import seed_for

if TYPE_CHECKING:
    from antiphon.agents.network import Tensors


def aligned_signals(arrivals: Sequence[Arrival]) -> StepSignals:
    """Return the signals that an aligned agent observes: of the newest message it reads, or none before the first."""
    if not arrivals or arrivals[-1].value is None:
        return StepSignals(-1, {})
    newest = arrivals[-1]
    return newest.due.signals if newest.signals is None else newest.signals


class ForwardPass:
    """Evaluates the agents of a system, one call at a time; probes and rollouts may override `as_read`, `send_over`.

    Args:
        greedy: Whether policies take their most likely action instead of a sample.
        deployed: Whether nothing learns from it, so that synthetic inputs use their running statistics, not those of
            the rows.
    """

    def __init__(
        self,
        system: System,
        *,
        greedy: bool = False,
        deployed: bool = False,
    ) -> None:
        self.system = system
        self.acting = Acting(system, greedy=greedy, learns=not deployed)
        self.contexts = Contexts(system, deployed=deployed)
        self.counts_observations = False
        self.after_call: Callable[[NetworkCall], None] | None = None
        """Called once the messages of a call have been sent; None: nothing is."""
        self.agent_names_without_graph: frozenset[str] = frozenset()
        """The agents whose ticks keep no graph: all ticks of a window are evaluated at once, when it ends."""

    def tick_agents(
        self,
        step: int,
        step_signals: StepSignals,
        calls: Sequence[NetworkCall] | None = None,
    ) -> None:
        """Evaluate all agents that tick at `step`, in waves.

        Args:
            calls: The calls that are evaluated; None: all that the schedule has at the step.
        """
        self.acting.begin_step(step, step_signals)
        for call in self.system.schedule.network_calls(step) if calls is None else calls:
            group = self.system.group_by_agent[call[0]]
            if group.window.number == NO_TICK_YET:
                self.begin_window(group, group.grid.number_at(step))
            window = group.window
            ticks: list[Tick] = []
            for agent in [self.system.agents[name] for name in call]:
                tick = self.begin_tick(agent, step, step_signals, window)
                if self.counts_observations:
                    agent.count_observations(tick.observed_signals, self.signal_of(tick), self.system.dtype)
                ticks.append(tick)
            learner = self.system.agents[call[0]].learner
            if call[0] in self.agent_names_without_graph:
                with torch.no_grad():
                    learner.buffers = self.evaluate(ticks, window, learner.buffers)
            else:
                learner.buffers = self.evaluate(ticks, window, learner.buffers)
            window.ticks_by_call.append(ticks)
            for tick in ticks:
                self._send_messages(self.system.agents[tick.agent_name], tick, window, step_signals)
            if self.after_call is not None:
                self.after_call(call)

    def begin_window(self, group: LearningGroup, number: int) -> None:
        """Begin a group's open window: it keeps running statistics, and who will learn. Ticks that it has, in a probe, stay."""
        window, agents = group.window, self.system.agents
        window.number = number
        window.statistics_before = {
            name: dict(agents[name].learner.buffers) for name in group.agent_count_by_learner
        }
        window.learning_rows_by_agent = {
            name: agents[name].learning_rows(number) for name in group.agent_names
        }

    def begin_tick(self, agent: Agent, step: int, step_signals: StepSignals, window: Window) -> Tick:
        """Return an agent's tick at `step` with its reads, not yet evaluated.

        More changes than the tick: inboxes may hold what they give (`Inbox.read`), a synthetic input keeps an example,
        and new counted reads enter the window.
        """
        tick = Tick(step, agent.name, step_signals, [], window.learning_rows_by_agent[agent.name])
        ages: list[Tensor] | None = [] if AGE in agent.inputs.observed.signal_names else None
        for channel in agent.connections.read_channels:
            arrivals = channel.wire.inbox.read(step)
            if arrivals and channel.synthetic_input.model is not None:
                arrivals[-1] = self.contexts.stand_in(channel, arrivals[-1], step)
            if channel.name == agent.inputs.align_channel_name:
                tick.observed_signals = aligned_signals(arrivals)
            # a read for each arrival; before the first message, one read of zeros
            reads = [self.as_read(channel, arrival, tick, window) for arrival in arrivals]
            reads = reads or [Constant(channel.name)]
            if channel.carries_state:
                (tick.state_read,) = reads
            else:
                tick.reads_by_channel.append(reads)
                if ages is not None:
                    ages.append(message_age(channel, arrivals, step))
        if ages is not None:
            tick.ages = agent.inputs.fan_in.columns(ages, agent.batch)
        return tick

    def as_read(self, channel: Channel, arrival: Arrival, tick: Tick, window: Window) -> Read:
        """Return the read of an arrival, of the kind that the coupling wants: through its sender, counted, or constant.

        All ticks of a window that read a message share one `CountedRead`. Each tick has its own where some rows do not
        count, or a synthetic input stands in for some.

        Raises:
            ScenarioError: A user's coupling wants the graph of a message of another window, which has none here.
        """
        received, learning_rows = arrival.due, tick.learning_rows
        same_window = (channel.name, received.stamp) in window.outputs_with_graph
        kind = channel.coupling.read_kind(same_window=same_window, is_state=channel.carries_state)
        if kind is ReadKind.WITH_GRAPH:
            if not same_window:
                line = (
                    f"{channel.coupling.name} reads the message of step {received.stamp + 1} with its graph"
                )
                raise ScenarioError(
                    f"channels[{channel.member_names[0]}].coupling: {line}, which is of another window, and has none; "
                    "return WITH_GRAPH from read_kind only if same_window"
                )
            # zeros where it is missing: a held message, which might stand in, has no graph in this window
            return WithGraph(channel.name, received.stamp, ~received.missing)
        if kind is ReadKind.CONSTANT or learning_rows is NONE or arrival.value is None:
            return Constant(channel.name, arrival.value, arrival.available)
        counted = arrival.may_count & learning_rows.map(channel.rows_from_receiver)
        # the host does not look at the mask: a read may count nowhere, if the link has lost all rows
        if counted is NONE:
            return Constant(channel.name, arrival.value, arrival.available)
        only_tick = None if counted is ALL and arrival.synthetic is NONE else tick.step
        key = channel.name, received.stamp, only_tick
        if key not in window.counted_reads:
            assert window.number in received.open_windows, (
                "`Timetable.read_plan` names each window whose ticks read a message"
            )
            value = as_leaf(arrival.value) if channel.wire.returns_gradients else arrival.value
            window.counted_reads[key] = CountedRead(
                channel.name, received, value, arrival.available, counted, only_tick
            )
        return window.counted_reads[key]

    def send_over(
        self, channel: Channel, step: int, output: Tensor, step_signals: StepSignals, void: Mask
    ) -> Sent:
        return channel.wire.outbox.send(step, output, step_signals, void)

    def evaluate(self, ticks: list[Tick], window: Window, buffers: dict[str, Tensor]) -> dict[str, Tensor]:
        """Evaluate a network for the ticks of one call, which get its ports, and return the new running statistics."""
        first_agent = self.system.agents[ticks[0].agent_name]
        learner = first_agent.learner
        channels, outputs = self.system.channels, window.outputs_with_graph
        states = [
            value_entering(read, channels[read.channel_name], outputs, tick.learning_rows)
            for tick in ticks
            if (read := tick.state_read) is not None
        ]
        start = self.window_statistics(first_agent, window, buffers)
        inputs = [self.joined_input(tick, window, start) for tick in ticks]
        call_input, call_state = joined(inputs), joined(states) if states else None
        ports, buffers_after = learner.evaluate(
            buffers,
            call_input,
            seed=0 if learner.network.pure else seed_for(first_agent.random_seed, "tick", str(ticks[0].step)),
            state=call_state,
        )
        keeps_graph = first_agent.name not in self.agent_names_without_graph
        if first_agent.has_critic and keeps_graph:
            ports[VALUE], critic_buffers_after = self.critic_values(ticks, buffers, start)
            buffers_after |= critic_buffers_after
        if first_agent.inputs.has_target_network:
            target = learner.target_outputs(start, call_input, call_state)
            ports[VALUE] = QLearning.value(ports[OBJECTIVE], target).unsqueeze(1)
        for i, tick in enumerate(ticks):
            tick.network_input = None if keeps_graph else inputs[i]
            names = self.system.agents[tick.agent_name].port_names
            tick.ports = {
                n: ports[n] if len(ticks) == 1 else ports[n].chunk(len(ticks))[i] for n in names if n in ports
            }
        return buffers | buffers_after

    def joined_input(self, tick: Tick, window: Window, statistics: Tensors) -> Tensor:
        """Return the network's input [rows, …], which the tick has kept, or observations and messages, joined by the fan-in.

        Args:
            window: The window that has the messages read with their graph.
            statistics: See `window_statistics`.
        """
        if tick.network_input is not None:
            return tick.network_input
        agent = self.system.agents[tick.agent_name]
        channels, outputs = self.system.channels, window.outputs_with_graph
        learning_rows = tick.learning_rows
        values_read = [
            [value_entering(read, channels[read.channel_name], outputs, learning_rows) for read in reads]
            for reads in tick.reads_by_channel
        ]
        return agent.join_input(self.observations(tick, statistics), values_read)

    def window_statistics(self, agent: Agent, window: Window, buffers: Tensors) -> Tensors:
        """Return the statistics that normalise observations: of the window's start; outside a window, `buffers`."""
        return window.statistics_before.get(self.system.learner_name_by_agent[agent.name], buffers)

    def observations(self, tick: Tick, statistics: Tensors, *, of_critic: bool = False) -> list[Tensor]:
        """Return what the members, or their critics, observe at a tick, [rows, …] each, in declared order
        (`Agent.observation_rows`)."""
        agent, signal_named = self.system.agents[tick.agent_name], self.signal_of(tick)
        kind, observed, network = OF_NETWORKS, agent.inputs.observed, agent.learner.network
        if of_critic:
            kind, observed, network = OF_CRITICS, agent.inputs.critic_observed, agent.learner.critic
        reads_vectors = len(network.input_shape) == 1
        observations = []
        for index, names in enumerate(observed.names_by_member):
            rows = (
                tick.ages
                if names[0] == AGE
                else agent.observation_rows(names, signal_named, self.system.dtype)
            )
            if rows is not None:
                if index in observed.normalised_indices and tick.observed_signals.signals:
                    of_members = statistics[f"{kind}.{index}"].view(len(agent.members), -1)
                    rows = normalised(agent.rows_of_all(rows), of_members)
                if not reads_vectors:
                    rows = as_maps(rows, observed.map_layouts[index])
                elif rows.dim() != 2:
                    rows = rows.reshape(rows.shape[0], -1)
                observations.append(rows)
        return observations

    def critic_input(self, tick: Tick, statistics: Tensors) -> Tensor:
        """Return what the critics of an agent's members read at a tick, [rows, *input_shape]."""
        observations = self.observations(tick, statistics, of_critic=True)
        return observations[0] if len(observations) == 1 else torch.cat(observations, 1)

    def critic_values(
        self, ticks: Sequence[Tick], buffers: Tensors, statistics: Tensors
    ) -> tuple[Tensor, Tensors]:
        """Return the values of the critics at the ticks of one call, [rows, 1], and the new running statistics."""
        learner = self.system.agents[ticks[0].agent_name].learner
        observed = torch.cat([self.critic_input(tick, statistics) for tick in ticks])
        return learner.values(buffers, observed)

    def signal_of(self, tick: Tick) -> Callable[[str], Tensor]:
        """Return a function from a signal's name to its value, as it enters the network of a tick."""
        signals = tick.observed_signals.signals
        categories = self.system.agents[tick.agent_name].inputs.categories
        return lambda name: as_input(self.system, name, signals.get(name), categories)

    def _send_messages(self, agent: Agent, tick: Tick, window: Window, step_signals: StepSignals) -> None:
        """Send the messages of a tick, made from what it observed; `step_signals` say where they are void as sent."""
        self.contexts.keep_state(tick)
        self.acting.act(tick)
        self._enter_outputs(agent, tick, window)
        for channel in agent.connections.send_channels:
            void = channel.void_when_sent(step_signals)
            output = (~void).zero_elsewhere(window.outputs_with_graph[channel.name, tick.step])
            sent = self.send_over(channel, tick.step, output, tick.observed_signals, void)
            sent.ends = self.contexts.of_ends(channel, sent)
            if not sent.plan.stays_in_window:
                window.sent.append((channel.name, sent))

    @staticmethod
    def _enter_outputs(agent: Agent, tick: Tick, window: Window) -> None:
        """Enter the outputs that a tick sends in its window; in a replay, a sampled message is the sample that was sent."""
        for channel in agent.connections.send_channels:
            output = channel.output_from_port(tick.ports[channel.content.port_name])
            if channel.content.sampler is not None:
                sampled = tick.sampled_messages.get(channel.name)
                output, tick.sampled_messages[channel.name] = channel.content.sampler.send(
                    output, tick.step, sampled
                )
            if tick.learning_rows is not ALL and tick.learning_rows is not NONE:
                # where its sender does not learn, no loss of a receiver goes back through it
                output = channel.mask_from_sender(tick.learning_rows).where(output, constant(output))
            window.outputs_with_graph[channel.name, tick.step] = output

    def replay(self, window: Window) -> None:
        """Make a window's graph again from its ticks; running statistics stay as they are."""
        buffers = dict(window.statistics_before)
        for ticks in window.ticks_by_call:
            if ticks[0].agent_name in self.agent_names_without_graph:
                continue
            learner_name = self.system.learner_name_by_agent[ticks[0].agent_name]
            buffers[learner_name] = self.evaluate(ticks, window, buffers[learner_name])
            for tick in ticks:
                self._enter_outputs(self.system.agents[tick.agent_name], tick, window)


def as_input(system: System, name: str, value: Tensor | None, categories: str = "one_hot") -> Tensor:
    """Return a signal as it enters a network, [rows, *shape_as(categories)].

    Args:
        value: [rows, *shape]; None: zeros for [seeds * B], as an aligned agent reads before its first message.
        categories: How a categorical signal enters the agent's network: `one_hot`, or as its values (`index`).
    """
    signal = system.description.signals[name]
    if value is None:
        return system.zeros(system.seed_count * system.batch, *signal.shape_as(categories))
    if signal.classes is None or categories == "index":
        return value
    classes = torch.arange(signal.classes, device=value.device)
    return value.unsqueeze(1) == classes.view(-1, *(1 for _ in signal.shape))


def joined(rows: list[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows)
