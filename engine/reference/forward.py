"""Forward pass of one agent's tick, and its replay from the window (rules 13, 15, 26, 28)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.agents.network import STATE, VALUE, Tensors
from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import Example
from antiphon.comms.links import combine_reads, join
from antiphon.engine.heart.message import LearningGroup, Read, StepSignals, Tick, Window
from antiphon.engine.reference.ledger import mask_fill_zero, simplified
from antiphon.engine.reference.predictors import context_of
from antiphon.engine.reference.state import State
from antiphon.nets.layers import Transport
from antiphon.nets.random import seed_for

if TYPE_CHECKING:
    from antiphon.engine.heart.agent import Agent
    from antiphon.engine.heart.channel import Channel


def tick_agents(state: State, names: tuple[str, ...], group: LearningGroup, signals: StepSignals) -> None:
    """Let one agent, or tied agents as one batch (rule 27a), tick: read, evaluate the network, send (rule 13)."""
    step, window, agents = signals.step, group.window, [state.agents[name] for name in names]
    if window.number != group.windows.number(step):
        window.number = group.windows.number(step)
        window.start = {name: dict(state.agents[name].learner.buffers) for name in group.owners}
    ticks = [_read(state, agent, signals, window) for agent in agents]
    learner = agents[0].learner
    learner.buffers = _evaluate(state, ticks, window, learner.buffers)
    window.calls.append(ticks)
    for agent, tick in zip(agents, ticks, strict=True):
        _send(state, agent, tick, window)


def replay(state: State, window: Window) -> None:
    """Make a window's graph again, with the parameters of now; running statistics stay as they are (rules 15, 27b)."""
    buffers = dict(window.start)
    for ticks in window.calls:
        owner = state.system.owner_of[ticks[0].agent]
        buffers[owner] = _evaluate(state, ticks, window, buffers[owner])


def release(window: Window) -> None:
    """Drop a window's graph: none outlives it (rule 15)."""
    window.live.clear()
    for tick in window.ticks():
        tick.ports = {}


def _read(state: State, agent: Agent, signals: StepSignals, window: Window) -> Tick:
    step = signals.step
    tick = Tick(step, agent.name, signals, [], state.participates(agent.name, window.number))
    ages: list[Tensor] = []
    for channel in agent.incoming:
        ledger = state.ledgers[channel.name]
        reads = ledger.reads(step)
        if channel.input.model is not None and not channel.input.all_disabled:
            reads = [_with_stand_in(state, channel, reads[-1], step)]
        if channel.name == agent.align and reads[-1].step_signals is not None:
            tick.step_signals = reads[-1].step_signals
        ages.append(ledger.age(reads[-1], step))
        tick.reads += [_followed(state, channel, read, tick, window) for read in reads]
    if agent.memory is not None:
        read = state.ledgers[agent.memory.name].reads(step)[-1]
        tick.memory = _followed(state, agent.memory, read, tick, window)
    if ages and "age" in agent.inputs.observes:
        tick.ages = torch.stack(ages, 1)
    return tick


def _with_stand_in(state: State, channel: Channel, read: Read, step: int) -> Read:
    """Let the synthetic input stand in where the due message is missing; note what it learns from (rule 18)."""
    message, ledger = read.message, state.ledgers[channel.name]
    if (
        channel.input.model is None
        or message is None
        or (channel.input.context and not message.step_signals.signals)
    ):
        return read  # without signals: sent by an aligned agent before its first message
    context, void = context_of(state, channel, message, step, True), ledger.mask(message.void)
    if message.first_use == step and not void.all():
        arrived = ~(ledger.lost(message) | void)
        example = Example(message.received, context, None, valid=arrived)
        state.input_examples.setdefault(channel.name, []).append(example)
    missing = ~void if channel.coupling == "unlocked" else ~(void | ledger.mask(read.counted))
    if not missing.any():
        return read
    return ledger.stand_in(read, constant(channel.input.model.predict(context, state.batch)), missing)


def _followed(state: State, channel: Channel, read: Read, tick: Tick, window: Window) -> Read:
    """What a tick reads as it will be differentiated: with its graph, as a leaf, or as a constant (rule 2)."""
    message, ledger = read.message, state.ledgers[channel.name]
    passed_on = channel.coupling == "locked" or ledger.is_state
    if message is not None and passed_on and (channel.name, message.stamp) in window.live:
        return Read(channel.name, available=simplified(~ledger.mask(message.void)), stamp=message.stamp)
    # Over a locked channel it was sent in an earlier window, where its credit is lost (rule 15).
    constant_only = channel.coupling == "locked" or not tick.participates
    if message is None or constant_only or not ledger.mask(read.counted).any():
        return Read(channel.name, read.value, simplified(ledger.mask(read.available)))
    return ledger.leaf(read, tick.step, window)


def _evaluate(state: State, ticks: list[Tick], window: Window, buffers: Tensors) -> Tensors:
    """Evaluate a network, keep outputs and messages with their graph, and return the new running statistics."""
    step, agents = ticks[0].step, [state.agents[tick.agent] for tick in ticks]
    learner = agents[0].learner
    states = [_value(state, tick.memory, tick, window) for tick in ticks if tick.memory is not None]
    ports, after = learner.network(
        learner.parameters,
        buffers,
        torch.cat([_network_input(state, tick, window) for tick in ticks]),
        training=not learner.frozen,
        seed=0 if learner.network.pure else seed_for(agents[0].seed, "tick", str(step)),
        transports=[path for i, tick in enumerate(ticks) for path in _feedback_paths(state, tick, window, i)],
        state=torch.cat(states) if states else None,
    )
    if agents[0].inputs.critic:
        seen = torch.cat([_critic_input(state, tick) for tick in ticks])
        ports[VALUE], updated = learner.values(learner.parameters, buffers, seen, training=not learner.frozen)
        after = after | updated
    for i, (agent, tick) in enumerate(zip(agents, ticks, strict=True)):
        tick.ports = {name: output.chunk(len(ticks))[i] for name, output in ports.items()}
        for channel in _outgoing(state, agent, step):
            window.live[channel.name, step] = _message(channel, tick, window)
    return after


def _message(channel: Channel, tick: Tick, window: Window) -> Tensor:
    """[B, …]: a message with its graph; in a window that is evaluated again, the sample that was sent (rule 26a)."""
    output = tick.ports[channel.port]
    if channel.sampler is None:
        return output
    sent = next((m.sent for name, m in window.sent if (name, m.stamp) == (channel.name, tick.step)), None)
    message, tick.sampled[channel.name] = channel.sampler.send(output, tick.step, sent)
    return message


def _outgoing(state: State, agent: Agent, step: int) -> list[Channel]:
    """The channels on which an agent sends at a tick; the state goes last."""
    sending = [c for c in agent.outgoing if state.ledgers[c.name].sender.due(step)]
    return sending if agent.memory is None else [*sending, agent.memory]


def _network_input(state: State, tick: Tick, window: Window) -> Tensor:
    """[B, *input_shape]: observations in declared order, then messages in canonical order (rules 26, 28)."""
    agent, system = state.agents[tick.agent], state.system
    flat = len(agent.learner.network.input_shape) == 1
    observations, messages, present = [], [], []
    for name in agent.inputs.observes:
        if name == "age":
            value = tick.ages
        else:
            value = system.network_input(name, tick.step_signals.signals.get(name), agent.inputs.categories)
        if value is not None:
            value = value.to(system.dtype)
            observations.append(value.reshape(len(value), -1) if flat else value)
    for channel in agent.incoming:
        reads, ledger = (
            [read for read in tick.reads if read.channel == channel.name],
            state.ledgers[channel.name],
        )
        values = [_value(state, read, tick, window) for read in reads]
        shaped = [value if flat else value.reshape(-1, *channel.shape) for value in values]
        there = [ledger.mask(read.available) for read in reads]
        side_by_side = list(zip(shaped, there, strict=True))
        message, available = combine_reads(ledger.read, side_by_side, channel.slots)
        messages.append(message)
        present.append(available)
    return join(agent.inputs.fan_in, observations, messages, present)


def _critic_input(state: State, tick: Tick) -> Tensor:
    """[B, *input_shape]: what an agent's critic observes, in declared order."""
    agent, system = state.agents[tick.agent], state.system
    values = [
        system.network_input(name, tick.step_signals.signals.get(name), agent.inputs.categories).to(
            system.dtype
        )
        for name in agent.inputs.critic
    ]
    flat = len(agent.learner.critic.input_shape) == 1
    return torch.cat([value.reshape(len(value), -1) if flat else value for value in values], 1)


def _value(state: State, read: Read, tick: Tick, window: Window) -> Tensor:
    """[B, size]: what was read on a channel, with as much of its graph as the coupling lets through."""
    channel = state.channels[read.channel]
    if read.stamp is None:
        return channel.zeros if read.value is None else read.value
    value = _passed_on(state, read, window)
    cut = not tick.participates or channel.feedback.direct is not None or channel.feedback.weights is not None
    return constant(value) if cut else value  # rules 7 and 10: nothing flows back this way


def _passed_on(state: State, read: Read, window: Window) -> Tensor:
    """[B, size]: a message of the same window as it arrives, with its graph (rule 8: straight-through)."""
    assert read.stamp is not None
    ledger = state.ledgers[read.channel]
    sent, available = window.live[read.channel, read.stamp].flatten(1), ledger.mask(read.available)
    if not available.any():  # void everywhere: nothing flows back, not even zeros
        sent = constant(sent)
    return mask_fill_zero(available, ledger.link.carry(read.stamp, sent))


def _feedback_paths(state: State, tick: Tick, window: Window, position: int) -> Iterator[Transport]:
    """Messages whose gradient goes back through fixed weights: feedback alignment (rule 10)."""
    rows = slice(position * state.batch, (position + 1) * state.batch)
    for read in tick.reads:
        weights = state.channels[read.channel].feedback.weights
        if weights is not None and read.stamp is not None and tick.participates:
            yield Transport(_passed_on(state, read, window), weights, rows)


def _send(state: State, agent: Agent, tick: Tick, window: Window) -> None:
    """Send the messages of a tick; a recurrent agent's state goes to its own next tick."""
    step = tick.step
    if agent.trail is not None:  # rule 25: predictors are conditioned on its states
        value, oldest = constant(tick.ports[STATE]), agent.clock.latest(step - agent.looked_back)
        trail = {s: v for s, v in agent.trail.items() if oldest is None or s >= oldest}
        value = torch.zeros_like(value) if _poisons(state, agent, value) else value
        agent.trail = {**trail, step: value}
    for channel in _outgoing(state, agent, step):
        ledger = state.ledgers[channel.name]
        live, ends = window.live[channel.name, step], {}
        for end, name, delay in (("from", channel.sender, 0), ("to", channel.receiver, ledger.link.delay)):
            trail = state.agents[name].trail or {}
            past = [s for s in trail if s <= step - delay]  # it crosses the link
            if f"{end}.state" in channel.gradient.ends and past:
                ends[f"{end}.state"] = trail[max(past)]
        void, start = _poisons(state, agent, live), state.system.began
        message = ledger.send(step, live, tick.step_signals, void, states=ends, began=start)
        if ledger.is_state and message.unread:
            ledger.release(message)  # passed on with its graph
        else:
            window.sent.append((channel.name, message))


def _poisons(state: State, agent: Agent, output: Tensor) -> bool:
    """Whether an output would poison whoever reads it: under quarantine it is void (rule 32)."""
    return agent.agent_disabled is True or (state.quarantine and not bool(output.isfinite().all()))
