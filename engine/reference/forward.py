"""Forward pass of one agent's tick, and its replay from the tape (rules 13, 15, 26, 28)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.agents.network import STATE, VALUE, Tensors
from antiphon.comms.backward_requests import constant
from antiphon.comms.links import combine_reads, join
from antiphon.engine.heart.message import AgentTick, LearningGroup, Read, StepSignals, Tape, Tick
from antiphon.engine.reference.ledger import mask_fill_zero, simplified
from antiphon.engine.reference.mailbox import Delivery
from antiphon.engine.reference.predictors import context_of
from antiphon.engine.reference.state import State
from antiphon.nets.layers import Transport
from antiphon.nets.random import seed_for

if TYPE_CHECKING:
    from antiphon.engine.heart.agent import Agent
    from antiphon.engine.heart.channel import Channel


def tick_agents(state: State, names: tuple[str, ...], group: LearningGroup, signals: StepSignals) -> None:
    """Let one agent, or tied agents as one batch (rule 27a), tick: read, evaluate the network, send (rule 13)."""
    step, tape, agents = signals.step, group.tape, [state.agents[name] for name in names]
    window = group.windows.number(step)
    if tape.window != window:
        tape.window = window
        tape.start = {name: dict(state.agents[name].learner.buffers) for name in group.owners}
    ticks = [_read(state, agent, signals, tape) for agent in agents]
    learner = agents[0].learner
    learner.buffers = _evaluate(state, step, ticks, tape, learner.buffers)
    tape.ticks.append(Tick(step, ticks))
    for agent, tick in zip(agents, ticks, strict=True):
        _send(state, agent, tick, step, tape)


def replay(state: State, tape: Tape) -> None:
    """Make a window's graph again, with the parameters of now; running statistics stay as they are (rules 15, 27b)."""
    buffers = dict(tape.start)
    for tick in tape.ticks:
        owner = state.system.owner_of[tick.parts[0].agent]
        buffers[owner] = _evaluate(state, tick.step, tick.parts, tape, buffers[owner])


def agent_ticks(tape: Tape) -> Iterator[tuple[int, AgentTick]]:
    """Yield every agent's ticks in a window with their steps, in order."""
    return ((tick.step, part) for tick in tape.ticks for part in tick.parts)


def release(tape: Tape) -> None:
    """Drop a window's graph: none outlives it (rule 15)."""
    tape.graph_outputs.clear()
    for _, tick in agent_ticks(tape):
        tick.ports = {}


def _read(state: State, agent: Agent, signals: StepSignals, tape: Tape) -> AgentTick:
    step = signals.step
    tick = AgentTick(agent.name, signals, [], state.participates(agent.name, tape.window))
    ages: list[Tensor] = []
    for channel in agent.incoming:
        mailbox = state.mailboxes[channel.name]
        deliveries = mailbox.deliveries(step)
        if channel.input is not None and not channel.input_model_disabled:
            deliveries = [_with_stand_in(state, channel, deliveries[-1], step)]
        if channel.name == agent.align:
            tick.step_signals = deliveries[-1].step_signals
        tick.reads += [_entry(state, channel, delivery, tick, step, tape) for delivery in deliveries]
        ages.append(mailbox.age(deliveries[-1], step))
    if agent.memory is not None:
        delivery = state.mailboxes[agent.memory.name].deliveries(step)[-1]
        tick.memory = _entry(state, agent.memory, delivery, tick, step, tape)
    if ages and "age" in agent.observes:
        tick.ages = torch.stack(ages, 1)
    return tick


def _with_stand_in(state: State, channel: Channel, delivery: Delivery, step: int) -> Delivery:
    """Let the synthetic input stand in where the due message is missing; note what it learns from (rule 18)."""
    record, mailbox = delivery.record, state.mailboxes[channel.name]
    if channel.input is None or record is None or (channel.input_context and not record.step_signals.signals):
        return delivery  # without signals: sent by an aligned agent before its first message
    context, void = context_of(state, channel, record, step, True), mailbox.ledger.mask(record.void)
    if record.first_use == step and not void.all():
        example = (context, record.received, ~(mailbox.ledger.lost(record) | void))
        state.input_examples.setdefault(channel.name, []).append(example)
    missing = ~void if channel.coupling == "unlocked" else ~(void | delivery.counted)
    if not missing.any():
        return delivery
    return mailbox.stand_in(delivery, constant(channel.input.predict(context, state.batch)), missing)


def _entry(state: State, channel: Channel, read: Delivery, tick: AgentTick, step: int, tape: Tape) -> Read:
    """Note what a tick reads as it will be differentiated: with its graph, as a leaf, or as a constant (rule 2)."""
    record, mailbox = read.record, state.mailboxes[channel.name]
    passed_on = channel.coupling == "locked" or mailbox.ledger.is_state
    if record is not None and passed_on and (channel.name, record.stamp) in tape.graph_outputs:
        return Read(channel.name, record.stamp, None, available=simplified(~mailbox.ledger.mask(record.void)))
    # Over a locked channel it was sent in an earlier window, where its credit is lost (rule 15).
    constant_only = channel.coupling == "locked" or not tick.participates or not read.counted.any()
    if record is None or constant_only:
        return Read(channel.name, None, read.value, available=simplified(read.available))
    shared = not mailbox.keeps and bool(read.counted.all()) and not read.predicted.any()
    use = mailbox.ledger.consume(step, record, read.value, read.counted, shared=shared)
    return Read(channel.name, None, use.leaf, use, simplified(read.available))


def _evaluate(state: State, step: int, ticks: list[AgentTick], tape: Tape, buffers: Tensors) -> Tensors:
    """Evaluate a network, keep outputs and messages with their graph, and return the new running statistics."""
    agents = [state.agents[tick.agent] for tick in ticks]
    learner = agents[0].learner
    states = [_value(state, tick.memory, tick, tape) for tick in ticks if tick.memory is not None]
    ports, after = learner.network(
        learner.parameters,
        buffers,
        torch.cat([_network_input(state, tick, tape) for tick in ticks]),
        training=not learner.frozen,
        seed=0 if learner.network.pure else seed_for(agents[0].seed, "tick", str(step)),
        transports=[path for i, tick in enumerate(ticks) for path in _feedback_paths(state, tick, tape, i)],
        state=torch.cat(states) if states else None,
    )
    if agents[0].critic:
        seen = torch.cat([_critic_input(state, tick) for tick in ticks])
        ports[VALUE], updated = learner.values(learner.parameters, buffers, seen, training=not learner.frozen)
        after = after | updated
    for i, (agent, tick) in enumerate(zip(agents, ticks, strict=True)):
        tick.ports = {name: output.chunk(len(ticks))[i] for name, output in ports.items()}
        for channel in _outgoing(state, agent, step):
            tape.graph_outputs[channel.name, step] = _message(channel, tick, step, tape)
    return after


def _message(channel: Channel, tick: AgentTick, step: int, tape: Tape) -> Tensor:
    """[B, …]: a message with its graph; in a window that is evaluated again, the sample that was sent (rule 26a)."""
    output = tick.ports[channel.port]
    if channel.sampler is None:
        return output
    sent = next((r.message for name, r in tape.sent if (name, r.stamp) == (channel.name, step)), None)
    message, tick.sampled[channel.name] = channel.sampler.send(output, step, sent)
    return message


def _outgoing(state: State, agent: Agent, step: int) -> list[Channel]:
    """The channels on which an agent sends at a tick; the state goes last."""
    sending = [c for c in agent.outgoing if state.ledgers[c.name].sender.due(step)]
    return sending if agent.memory is None else [*sending, agent.memory]


def _network_input(state: State, tick: AgentTick, tape: Tape) -> Tensor:
    """[B, *input_shape]: observations in declared order, then messages in canonical order (rules 26, 28)."""
    agent, system = state.agents[tick.agent], state.system
    flat = len(agent.learner.network.input_shape) == 1
    observations, messages, present = [], [], []
    for name in agent.observes:
        if name == "age":
            value = tick.ages
        else:
            value = system.network_input(name, tick.step_signals.signals.get(name), agent.categories)
        if value is not None:
            value = value.to(system.dtype)
            observations.append(value.reshape(len(value), -1) if flat else value)
    for channel in agent.incoming:
        entries = [entry for entry in tick.reads if entry.channel == channel.name]
        values = [_value(state, entry, tick, tape) for entry in entries]
        shaped = [value if flat else value.reshape(-1, *channel.shape) for value in values]
        there = [state.ledgers[channel.name].mask(entry.available) for entry in entries]
        read = list(zip(shaped, there, strict=True))
        message, available = combine_reads(state.mailboxes[channel.name].read, read, channel.slots)
        messages.append(message)
        present.append(available)
    return join(agent.fan_in, observations, messages, present)


def _critic_input(state: State, tick: AgentTick) -> Tensor:
    """[B, *input_shape]: what an agent's critic observes, in declared order."""
    agent, system = state.agents[tick.agent], state.system
    values = [
        system.network_input(name, tick.step_signals.signals.get(name), agent.categories).to(system.dtype)
        for name in agent.critic
    ]
    flat = len(agent.learner.critic.input_shape) == 1
    return torch.cat([value.reshape(len(value), -1) if flat else value for value in values], 1)


def _value(state: State, entry: Read, tick: AgentTick, tape: Tape) -> Tensor:
    """[B, size]: what was read on a channel, with as much of its graph as the coupling lets through."""
    channel = state.channels[entry.channel]
    if entry.stamp is None:
        return channel.zeros if entry.value is None else entry.value
    value = _passed_on(state, entry, tape)
    cut = not tick.participates or channel.direct is not None or channel.feedback_weights is not None
    return constant(value) if cut else value  # rules 7 and 10: nothing flows back this way


def _passed_on(state: State, entry: Read, tape: Tape) -> Tensor:
    """[B, size]: a message of the same window as it arrives, with its graph (rule 8: straight-through)."""
    assert entry.stamp is not None
    ledger = state.ledgers[entry.channel]
    sent, available = tape.graph_outputs[entry.channel, entry.stamp].flatten(1), ledger.mask(entry.available)
    if not available.any():  # void everywhere: nothing flows back, not even zeros
        sent = constant(sent)
    return mask_fill_zero(available, ledger.link.carry(entry.stamp, sent))


def _feedback_paths(state: State, tick: AgentTick, tape: Tape, position: int) -> Iterator[Transport]:
    """Messages whose gradient goes back through fixed weights: feedback alignment (rule 10)."""
    rows = slice(position * state.batch, (position + 1) * state.batch)
    for entry in tick.reads:
        weights = state.channels[entry.channel].feedback_weights
        if weights is not None and entry.stamp is not None and tick.participates:
            yield Transport(_passed_on(state, entry, tape), weights, rows)


def _send(state: State, agent: Agent, tick: AgentTick, step: int, tape: Tape) -> None:
    """Open a record for each message of a tick; a recurrent agent's state goes to its own next tick."""
    if agent.trail is not None:  # rule 25: predictors are conditioned on its states
        value, oldest = constant(tick.ports[STATE]), agent.clock.latest(step - agent.looked_back)
        trail = {s: v for s, v in agent.trail.items() if oldest is None or s >= oldest}
        value = torch.zeros_like(value) if _poisons(state, agent, value) else value
        agent.trail = {**trail, step: value}
    for channel in _outgoing(state, agent, step):
        ledger, mailbox = state.ledgers[channel.name], state.mailboxes[channel.name]
        message, ends = tape.graph_outputs[channel.name, step], {}
        for end, name, delay in (("from", channel.sender, 0), ("to", channel.receiver, ledger.link.delay)):
            trail = state.agents[name].trail or {}
            past = [s for s in trail if s <= step - delay]  # it crosses the link
            if f"{end}.state" in channel.ends and past:
                ends[f"{end}.state"] = trail[max(past)]
        void, start = _poisons(state, agent, message), state.system.began
        record = ledger.open(step, message, tick.step_signals, void, states=ends, began=start)
        ledger.forget(step, ledger.shared.read_up_to if mailbox.keeps else None)
        if ledger.is_state and record.unread:
            ledger.release(record)  # passed on with its graph
        else:
            tape.sent.append((channel.name, record))


def _poisons(state: State, agent: Agent, output: Tensor) -> bool:
    """Whether an output would poison whoever reads it: under quarantine it is void (rule 32)."""
    return agent.agent_disabled is True or (state.quarantine and not bool(output.isfinite().all()))
