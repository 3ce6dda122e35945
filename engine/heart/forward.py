"""Ticking: agents due at a step read, evaluate and send; a window's ticks can be replayed from its tape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from antiphon.agents.network import VALUE
from antiphon.comms.backward_requests import constant
from antiphon.comms.links import combine_reads
from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import Call
from antiphon.engine.heart.message import Action, AgentTick, Delivery, Read, Record, StepSignals, Tape, Tick
from antiphon.engine.heart.rows import EnvMask, mask_and, mask_fill_zero, mask_not, mask_or
from antiphon.engine.heart.system import System
from antiphon.nets.random import seed_for
from antiphon.nets.step_numbers import stamp_number

if TYPE_CHECKING:
    from antiphon.engine.features.contexts import States
    from antiphon.engine.features.feedback_alignment import FixedFeedback
    from antiphon.engine.features.stand_ins import StandIns
    from antiphon.engine.native.networks import NativeNetwork
    from antiphon.engine.policies.actions import Actions

__all__ = ["ForwardPass", "MessagePolicy", "TrainingMessages"]


class MessagePolicy(Protocol):
    """How messages enter a tick's graph, and what is sent."""

    def read(self, channel: Channel, delivery: Delivery, part: AgentTick, step: int, tape: Tape) -> Read:
        """Return what a tick reads, as it will be differentiated."""

    def send(self, channel: Channel, step: int, message: Tensor, step_signals: StepSignals) -> Record:
        """Enter a message, [rows, …] with its graph, in the channel's ledger and return its record."""


class TrainingMessages:
    """The policy of a run: gradients end where the couplings let them, and come back through the ledgers."""

    def read(self, channel: Channel, delivery: Delivery, part: AgentTick, step: int, tape: Tape) -> Read:
        """Return a message made in this window, a leaf, or a constant."""
        record = delivery.record
        if record is not None and (channel.name, record.stamp) in tape.graph_outputs:
            return Read(
                channel.name, record.stamp, None, available=record.void is False or mask_not(record.void)
            )
        if channel.coupling == "locked" or part.participates is False:
            # Over a locked channel it was made in an earlier window, where its credit is lost.
            return Read(channel.name, None, delivery.value, available=delivery.available)
        if isinstance(part.participates, Tensor):
            learned = mask_and(delivery.counted, channel.of_receiver(part.participates))
            delivery = replace(delivery, counted=learned, somewhere=None)
        use = channel.ledger.use(step, delivery)
        value = delivery.value if use is None else use.leaf
        return Read(channel.name, None, value, use, delivery.available)

    def send(self, channel: Channel, step: int, message: Tensor, step_signals: StepSignals) -> Record:
        """Enter a message and return its record."""
        return channel.ledger.send(step, message, step_signals)


def _aligned(reading: Delivery) -> StepSignals:
    """The signals an aligned agent works on: those of the message it consumes; none before the first."""
    if reading.value is None or reading.record is None:
        return StepSignals(-1, {})
    return reading.record.step_signals if reading.step_signals is None else reading.step_signals


class ForwardPass:
    """Evaluates the agents of a system, one call at a time.

    Args:
        system: The agents, channels and groups.
        messages: How messages are read and sent; None: as in a run.
    """

    def __init__(self, system: System, messages: MessagePolicy | None = None) -> None:
        self.system = system
        self.messages = messages or TrainingMessages()
        self.stand_ins: StandIns | None = None
        """Hook on what has arrived: predicted messages in the place of missing ones."""
        self.feedback: FixedFeedback | None = None
        """Hook on the network's evaluation: gradients that go back through fixed weights."""
        self.states: States | None = None
        """Hook on what is sent: states of agents that predictors are conditioned on."""
        self.actions: Actions | None = None
        """Hook on agents that have ticked: what they do in the environment, and what follows."""
        self.native: Mapping[str, NativeNetwork] = {}
        """Networks that the native kernel evaluates, by stack."""

    @property
    def action(self) -> Action | None:
        """What is done in the environment after the newest step; None: nobody acted."""
        return None if self.actions is None else self.actions.of()

    def tick(
        self,
        step: int,
        step_signals: StepSignals,
        calls: Sequence[Call] | None = None,
        *,
        ticked: Callable[[Call], None] | None = None,
    ) -> None:
        """Evaluate all agents due at `step`, in waves.

        Args:
            step: The step.
            step_signals: Its signals.
            calls: Those of the schedule's calls that are evaluated; None: all.
            ticked: Called after each of them; None: nothing is.
        """
        if self.actions is not None:
            self.actions.begin(step, step_signals)
        for call in self.system.schedule.calls(step) if calls is None else calls:
            group = self.system.group_of[call[0]]
            tape = group.tape
            window = group.windows.number(step)
            if tape.window != window:
                tape.window = window
                tape.start = {name: dict(self.system.agents[name].learner.buffers) for name in group.owners}
            tick = Tick(
                step, [self._part(self.system.agents[name], step, step_signals, tape) for name in call]
            )
            learner = self.system.agents[call[0]].learner
            learner.buffers = self.evaluate(tick, tape, learner.buffers)
            tape.ticks.append(tick)
            for part in tick.parts:
                self._send(part, step, tape)
                if self.actions is not None:
                    self.actions.ticked(part, step)
            if ticked is not None:
                ticked(call)

    def _part(self, agent: Agent, step: int, step_signals: StepSignals, tape: Tape) -> AgentTick:
        part = AgentTick(agent.name, step_signals, [], agent.participates(tape.window))
        ages: list[Tensor] = []
        sees_ages = AGE in agent.observes
        for channel in agent.incoming:
            readings = channel.mailbox.receive_all(step)
            newest = readings[-1]
            if channel.input is not None and self.stand_ins is not None:
                readings[-1] = newest = self.stand_ins.stand_in(channel, newest, step)
            if channel.name == agent.align:
                part.step_signals = _aligned(newest)
            part.reads.extend(self.messages.read(channel, reading, part, step, tape) for reading in readings)
            if sees_ages:
                ages.append(self._age(channel, newest, step))
        if agent.memory is not None:
            reading = agent.memory.mailbox.receive(step)
            part.memory = self.messages.read(agent.memory, reading, part, step, tape)
        if ages:
            part.ages = agent.layout.columns(ages)
        return part

    def _age(self, channel: Channel, reading: Delivery, step: int) -> Tensor:
        """[B]: how old what is read is, in ticks of its sender; 0 where nothing has come."""
        blank = torch.zeros_like(channel.zeros[:, 0])
        if reading.record is None or reading.available is False:
            return blank
        age: Tensor | int = step - reading.record.stamp
        if channel.mailbox.held_stamp is not None and reading.stand_in_mask is False:
            age = stamp_number(step) - channel.mailbox.held_stamp
        return mask_fill_zero(reading.available, (blank + age) / channel.ledger.sender.clock.period)

    def evaluate(
        self, tick: Tick, tape: Tape, buffers: dict[str, Tensor], *, replay: bool = False
    ) -> dict[str, Tensor]:
        """Evaluate a tick's network, put the ports into its parts and return the new running statistics."""
        first = self.system.agents[tick.parts[0].agent]
        learner, native = first.learner, self.native.get(first.name)
        if native is not None:
            ports, after = native(buffers, *self._inputs(tick.parts[0], tape, repeat=False))
        else:
            rows = [self.inputs(part, tape) for part in tick.parts]
            x = rows[0] if len(rows) == 1 else torch.cat(rows)
            ports, after = learner.network(
                learner.parameters,
                buffers,
                x,
                training=not learner.frozen,
                seed=0 if learner.network.pure else seed_for(first.seed, "tick", str(tick.step)),
                transports=() if self.feedback is None else self.feedback.transports(tick, tape),
                state=self._states(tick, tape) if learner.network.state_size else None,
            )
        if first.critic:
            observed = torch.cat([self.critic_input(part) for part in tick.parts])
            training = not learner.frozen
            ports[VALUE], updated = learner.values(learner.parameters, buffers, observed, training=training)
            after |= updated
        for i, part in enumerate(tick.parts):
            names = self.system.agents[part.agent].ports
            count = len(tick.parts)
            part.ports = {n: ports[n] if count == 1 else ports[n].chunk(count)[i] for n in names}
        if replay:
            self._relive(tick, tape)
        return after

    def inputs(self, part: AgentTick, tape: Tape) -> Tensor:
        """The network's input [rows, …]: observations and messages, joined by the agent's fan-in."""
        return self.system.agents[part.agent].layout.join(*self._inputs(part, tape))

    def _inputs(
        self, part: AgentTick, tape: Tape, *, repeat: bool = True
    ) -> tuple[list[Tensor], list[Tensor], list[EnvMask]]:
        """What fan-in joins: observations (to `repeat`: see `Agent.to_rows`), messages, and where there are messages."""
        agent = self.system.agents[part.agent]
        flat = len(agent.learner.network.input_shape) == 1
        observations = self.observations(part, repeat=repeat)
        messages: list[Tensor] = []
        available: list[EnvMask] = []
        entries = iter(part.reads)
        entry = next(entries, None)
        for channel in agent.incoming:
            read: list[tuple[Tensor, EnvMask]] = []
            while entry is not None and entry.channel == channel.name:
                value = self._value(entry, channel, part, tape)
                read.append((value if flat else value.reshape(len(value), *channel.shape), entry.available))
                entry = next(entries, None)
            message, there = combine_reads(channel.ledger.read, read, channel.slots)
            messages.append(message)
            available.append(there)
        return observations, messages, available

    def observations(self, part: AgentTick, *, repeat: bool = True) -> list[Tensor]:
        """What a tick's network reads beside messages, [rows, …] each, in declared order; `repeat`: see `Agent.to_rows`."""
        agent, signals = self.system.agents[part.agent], part.step_signals.signals
        observations = agent.observations(
            lambda name: self.system.network_input(name, signals.get(name), agent.categories),
            self.system.dtype,
            repeat=repeat,
        )
        if part.ages is not None:
            observations.insert(agent.observes.index(AGE), part.ages)
        return observations

    def critic_input(self, part: AgentTick) -> Tensor:
        """What the critic of an agent reads at a tick, [rows, …]: observations, some of which it has in training only."""
        agent, signals = self.system.agents[part.agent], part.step_signals.signals
        return agent.critic_input(
            lambda name: self.system.network_input(name, signals.get(name), agent.categories),
            self.system.dtype,
        )

    def _value(self, entry: Read, channel: Channel, part: AgentTick, tape: Tape) -> Tensor:
        """[B, size]: what was read over a channel, with as much of its graph as the coupling lets through."""
        if entry.stamp is None:
            return channel.zeros if entry.value is None else entry.value
        value = mask_fill_zero(entry.available, tape.graph_outputs[channel.name, entry.stamp].flatten(1))
        if part.participates is False or channel.direct is not None or channel.feedback_weights is not None:
            return constant(value)
        if isinstance(part.participates, Tensor):
            return torch.where(channel.of_receiver(part.participates).unsqueeze(1), value, constant(value))
        return value

    def _states(self, tick: Tick, tape: Tape) -> Tensor:
        """[rows, state size]: the states that the agents of one call take up."""
        found = []
        for part in tick.parts:
            memory = self.system.agents[part.agent].memory
            assert memory is not None
            assert part.memory is not None
            found.append(self._value(part.memory, memory, part, tape))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _send(self, part: AgentTick, step: int, tape: Tape) -> None:
        agent = self.system.agents[part.agent]
        if self.states is not None:
            self.states.note(agent, part, step)
        for channel in agent.sends:
            if not channel.ledger.sender.due(step):
                continue
            message = self._message(channel, part, step)
            record = self.messages.send(channel, step, message, part.step_signals)
            self._annotate(channel, agent, record, step)
            if channel is agent.memory or channel.coupling == "locked":
                self._keep_graph(channel, step, message, tape)
            if channel is agent.memory and record.unread:
                channel.ledger.release([(channel.name, record)])
            else:
                tape.sent.append((channel.name, record))

    @staticmethod
    def _message(channel: Channel, part: AgentTick, step: int) -> Tensor:
        """What a tick sends over a channel, [rows, …] with its graph: as it was first sampled."""
        message = channel.message_of(part.ports[channel.port])
        if channel.sampler is not None:
            sent = part.sampled.get(channel.name)
            message, part.sampled[channel.name] = channel.sampler.send(message, step, sent)
        return message

    @staticmethod
    def _keep_graph(channel: Channel, step: int, message: Tensor, tape: Tape) -> None:
        """Keep a message with its graph for readers within the window: over a locked channel, or an agent's own state."""
        if channel.state:
            tape.graph_outputs[channel.name, step] = message
        elif channel.coupling == "locked":
            tape.graph_outputs[channel.name, step] = channel.ledger.link.carry(step, message.flatten(1))

    def _annotate(self, channel: Channel, agent: Agent, record: Record, step: int) -> None:
        """Note what is known of a message; what would poison its readers is void (looked at under quarantine only)."""
        void: EnvMask = False
        if agent.agent_disabled is not False:
            void = channel.of_sender(agent.agent_disabled)
        if self.system.divergence.quarantine:
            void = mask_or(void, channel.not_finite(record.message))
        if void is not False or channel.ends or self.system.episode is not None:
            states = {} if self.states is None else self.states.of_ends(channel, step)
            channel.ledger.annotate(record, void=void, states=states, began=self.system.began)

    def _relive(self, tick: Tick, tape: Tape) -> None:
        """Put the messages of a replayed tick back where the first evaluation put them."""
        sent = {name: record for name, record in tape.sent if record.stamp == tick.step}
        for part in tick.parts:
            for channel in self.system.agents[part.agent].sends:
                if not channel.ledger.sender.due(tick.step):
                    continue
                record = sent.get(channel.name)
                if channel.sampler is not None and record is not None:
                    part.sampled.setdefault(channel.name, record.message)
                message = self._message(channel, part, tick.step)
                self._keep_graph(channel, tick.step, message, tape)
                if record is not None:
                    channel.ledger.attach_graph(record, message)

    def replay(self, tape: Tape) -> None:
        """Make a window's graph again from its tape; running statistics stay as they are."""
        buffers = dict(tape.start)
        for tick in tape.ticks:
            name = self.system.owner_of[tick.parts[0].agent]
            buffers[name] = self.evaluate(tick, tape, buffers[name], replay=True)
