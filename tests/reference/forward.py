"""Forward pass of one agent's tick, and its replay from the window (rules 13, 15, 26, 28)."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.agents.learner import TARGET
from antiphon.agents.network import OBJECTIVE, STATE, VALUE, Tensors, sub
from antiphon.comms import Example, Mask
from antiphon.comms.backward_requests import as_leaf, constant
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Arrival
from antiphon.engine.heart.forward import as_input
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.window import Constant, CountedRead, Read, Tick, Window, WithGraph
from antiphon.nets.layers import as_maps
from antiphon.nets.mask import ALL, NONE
from antiphon.nets.random import seed_for
from tests.reference import wires
from tests.reference.observations import count_observations
from tests.reference.predictors import context_of_input, end_value
from tests.reference.state import State
from tests.reference.wires import as_mask, mask_fill_zero, select, simplified


def tick_agents(state: State, names: tuple[str, ...], signals: StepSignals) -> list[Tick]:
    """Let one agent, or tied agents as one batch (rule 27a), tick: read, evaluate the network, send (rule 13)."""
    group, agents = state.group_of[names[0]], [state.agents[name] for name in names]
    window, learner = group.window, agents[0].learner
    if window.number != (number := group.grid.number_at(signals.step)):
        window.number, counts = number, group.agent_count_by_learner
        window.statistics_before = {name: dict(state.agents[name].learner.buffers) for name in counts}
        rows = {name: Mask.of(state.participates(name, number)) for name in group.agent_names}
        window.learning_rows_by_agent = rows  # metrics read them
    ticks = [_read(state, agent, signals, window) for agent in agents]
    for tick in ticks:
        count_observations(state, tick)
    learner.buffers = learner.buffers | evaluate(state, ticks, window, learner.buffers)
    window.ticks_by_call.append(ticks)
    for agent, tick in zip(agents, ticks, strict=True):
        _send(state, agent, tick, window, signals)
    return ticks


def replay(state: State, window: Window) -> None:
    """Make a window's graph again, with the parameters of now; running statistics stay as they are (rules 15, 27b)."""
    buffers = dict(window.statistics_before)
    for ticks in window.ticks_by_call:
        name = state.system.learner_name_by_agent[ticks[0].agent_name]
        buffers[name] = buffers[name] | evaluate(state, ticks, window, buffers[name])


def _read(state: State, agent: Agent, signals: StepSignals, window: Window) -> Tick:
    step = signals.step
    tick = Tick(step, agent.name, signals, [], Mask.of(state.participates(agent.name, window.number)))
    ages = []
    for channel in agent.connections.read_channels:
        found = wires.arrivals(channel, step)
        if channel.synthetic_input.model is not None and found:
            found = [with_stand_in(state, channel, found[-1], step)]
        if channel.name == agent.inputs.align_channel_name:
            tick.observed_signals = signals_of(found)
        followed = [_followed(channel, one, tick, window) for one in found] or [Constant(channel.name)]
        if channel is agent.connections.state_channel:
            tick.state_read = followed[-1]
        else:
            tick.reads_by_channel.append(followed)
            ages.append(wires.age(channel, found, step))
    if ages and "age" in agent.inputs.observed.signal_names:
        tick.ages = torch.stack(ages, 1)
    return tick


def signals_of(arrived: list[Arrival]) -> StepSignals:
    """The signals an aligned agent works on: those of the newest message it reads; none before the first."""
    newest = arrived[-1].signals if arrived else None
    return StepSignals(-1, {}) if newest is None else newest


def with_stand_in(state: State, channel: Channel, arrival: Arrival, step: int) -> Arrival:
    """Let the synthetic input stand in where the due message is missing; note what it learns from (rule 18)."""
    due, model = arrival.due, channel.synthetic_input.model
    # Without signals it was sent by an aligned agent before its first message.
    if model is None or (channel.synthetic_input.context.signal_specs and not due.signals.signals):
        return arrival
    context = context_of_input(state, channel, due, step)
    alive = ~as_mask(due.void, due.value)
    if due.plan.first_tick == step and alive.any():
        example = Example(due.value, context, None, valid=Mask.of(alive & ~as_mask(due.lost, due.value)))
        channel.synthetic_input.examples.append(example)
    unlocked = channel.coupling.name == "unlocked"
    missing = alive if unlocked else alive & ~as_mask(arrival.may_count, due.value)
    if arrival.value is None or arrival.signals is None or not missing.any():
        return arrival
    value = select(missing, constant(model.predict(context, state.batch)), arrival.value)
    signals, filled = arrival.signals, Mask.of(missing)
    available, counted = arrival.available | filled, arrival.may_count | filled
    if channel.wire.aligned and channel.wire.inbox.holds:
        signals = StepSignals(signals.step, wires.mixed(missing, due.signals.signals, signals.signals))
    return Arrival(due, value, available, counted, synthetic=filled, signals=signals)


def _followed(channel: Channel, arrival: Arrival, tick: Tick, window: Window) -> Read:
    """What a tick reads as it will be differentiated: with its graph, as a leaf, or as a constant (rule 2)."""
    due, locked = arrival.due, channel.coupling.name == "locked"
    if (locked or channel.carries_state) and (channel.name, due.stamp) in window.outputs_with_graph:
        return WithGraph(channel.name, due.stamp, simplified(~as_mask(due.void, due.value)))
    masks = arrival.available, arrival.may_count
    available, counted = (simplified(as_mask(mask, channel.content.zeros)) for mask in masks)
    # Over a locked channel it was sent in an earlier window, where its credit is lost (rule 15).
    if arrival.value is None or locked or tick.learning_rows is NONE or counted is NONE:
        return Constant(channel.name, arrival.value, available)
    # A window has one leaf of a message that is there everywhere.
    never_lost, synthetic = not channel.wire.inbox.holds, as_mask(arrival.synthetic, arrival.value)
    shared = never_lost and counted is ALL and not synthetic.any()
    key = channel.name, due.stamp, None if shared else tick.step
    if key not in window.counted_reads:
        value = as_leaf(arrival.value) if channel.wire.returns_gradients else arrival.value
        window.counted_reads[key] = CountedRead(channel.name, due, value, available, counted, key[2])
    return window.counted_reads[key]


def evaluate(state: State, ticks: list[Tick], window: Window, buffers: Tensors) -> Tensors:
    """Evaluate a network, keep outputs and messages with their graph, and return the new running statistics."""
    step, agents = ticks[0].step, [state.agents[tick.agent_name] for tick in ticks]
    learner_name = state.system.learner_name_by_agent[agents[0].name]
    learner = agents[0].learner
    seed = 0 if learner.network.pure else seed_for(agents[0].random_seed, "tick", str(step))
    states = [_value(state, tick.state_read, tick, window) for tick in ticks if tick.state_read is not None]
    before = torch.cat(states) if states else None
    statistics = window.statistics_before.get(learner_name, buffers)  # rule 45
    x = torch.cat([input_of(state, tick, window, statistics) for tick in ticks])
    ports, after = learner.evaluate(buffers, x, seed=seed, state=before)
    if agents[0].inputs.critic_observed.signal_names:
        flat = len(learner.critic.input_shape) == 1
        layouts = () if flat else agents[0].inputs.critic_observed.map_layouts
        parts = [torch.cat(critic_observed(state, tick, statistics, layouts), 1) for tick in ticks]
        seen = torch.cat(parts)
        ports[VALUE], updated = learner.values(buffers, seen)
        after = after | updated
    if agents[0].inputs.has_target_network:  # the best choice's value, by earlier parameters (rule 41a)
        own, settings = sub(statistics, TARGET), {"training": False, "state": before}
        target = constant(learner.network(own, statistics, x, **settings)[0][OBJECTIVE])
        best = ports[OBJECTIVE].argmax(1)
        ports[VALUE] = target[torch.arange(len(best)), best].unsqueeze(1)
    for i, (agent, tick) in enumerate(zip(agents, ticks, strict=True)):
        tick.ports = {name: output.chunk(len(ticks))[i] for name, output in ports.items()}
        sent = {name: message.value for name, message in window.sent if message.stamp == step}
        for channel in agent.connections.send_channels:  # the state, for its own next tick, goes last
            if not channel.carries_state and not channel.wire.timetable.sender_clock.ticks_at(step):
                continue
            message = tick.ports[channel.content.port_name]
            if (sampler := channel.content.sampler) is not None:  # again, it sends what was sent (rule 26a)
                sample = sampler.send(message, step, sent.get(channel.name))
                message, tick.sampled_messages[channel.name] = sample
            window.outputs_with_graph[channel.name, step] = message
    return after


def input_of(state: State, tick: Tick, window: Window, statistics: Tensors) -> Tensor:
    """[B, *input_shape]: observations in declared order, then messages in canonical order (rules 26, 28)."""
    agent, messages = state.agents[tick.agent_name], []
    flat = len(agent.learner.network.input_shape) == 1
    for channel, reads in zip(agent.connections.incoming, tick.reads_by_channel, strict=True):
        values = [_value(state, read, tick, window) for read in reads]
        if not flat:
            values = [value.reshape(-1, *channel.content.shape) for value in values]
        for _ in range(channel.wire.timetable.slots - len(values)):  # the oldest are zeros
            messages.append(torch.zeros_like(values[0]))
        messages += values
    inputs, layouts = agent.inputs, () if flat else agent.inputs.observed.map_layouts
    own = {place: statistics[f"observes.{place}"] for place in inputs.observed.normalised_indices}
    observed = _observed(state, tick, inputs.observed.signal_names, own, layouts)
    return torch.cat([*observed, *messages], 1)


def critic_observed(state: State, tick: Tick, statistics: Tensors, layouts: tuple[str, ...]) -> list[Tensor]:
    """What an agent's critic observes at a tick, [B, …] each."""
    observed = state.agents[tick.agent_name].inputs.critic_observed
    own = {place: statistics[f"critic_observes.{place}"] for place in observed.normalised_indices}
    return _observed(state, tick, observed.signal_names, own, layouts)


def _observed(
    state: State, tick: Tick, names: tuple[str, ...], statistics: dict[int, Tensor], layouts: tuple[str, ...]
) -> list[Tensor]:
    """Observations as they enter a network, [B, …] each; flat without `layouts`, else as maps.

    Those at the places of `statistics` are normalised by them (rule 45).
    """
    system, categories, found = state.system, state.agents[tick.agent_name].inputs.categories, []
    for place, name in enumerate(names):
        signal = tick.observed_signals.signals.get(name)
        value = tick.ages if name == "age" else as_input(system, name, signal, categories)
        if value is not None:
            value = value.to(system.dtype)
            if place in statistics and signal is not None:
                _, mean, variance = torch.split(statistics[place], [1, value[0].numel(), value[0].numel()])
                eps = torch.finfo(system.dtype).eps
                deviation = (variance + (8 * eps * mean) ** 2 + 1e-30) ** 0.5
                value = ((value.flatten(1) - mean) / deviation).clamp(-10, 10).reshape(value.shape)
            found.append(as_maps(value, layouts[place]) if layouts else value.reshape(len(value), -1))
    return found


def message_read(state: State, read: Read, window: Window) -> Tensor:
    """[B, size]: what was read; of a message of the same window as it arrives, with its graph (rule 8: straight-through)."""
    channel = state.channels[read.channel_name]
    if isinstance(read, WithGraph):
        sent = window.outputs_with_graph[read.channel_name, read.stamp].flatten(1)
        arrives = as_mask(read.available, sent).any()  # void everywhere: nothing flows back, not even zeros
        value = channel.wire.link.carry(read.stamp, sent if arrives else constant(sent))
    else:
        value = channel.content.zeros if read.value is None else read.value
    return mask_fill_zero(as_mask(read.available, value), value)


def _value(state: State, read: Read, tick: Tick, window: Window) -> Tensor:
    """[B, size]: what was read on a channel, with as much of its graph as the coupling lets through."""
    value = message_read(state, read, window)
    cut = isinstance(read, WithGraph) and tick.learning_rows is NONE
    return constant(value) if cut else value  # rule 7: nothing flows back this way


def _send(state: State, agent: Agent, tick: Tick, window: Window, signals: StepSignals) -> None:
    """Send the messages of a tick, with the states of their ends where predictors are conditioned on them (rule 25)."""
    step = tick.step
    if (shown := agent.oldest_shown_state(step)) is not None:
        oldest = agent.clock.latest(shown)
        trail = [(s, v) for s, v in agent.kept.newest_states if oldest is None or s >= oldest]
        agent.kept.newest_states = [*trail, (step, constant(tick.ports[STATE]))]
    sending = [c for c in agent.connections.send_channels if (c.name, step) in window.outputs_with_graph]
    for channel in sending:
        live = window.outputs_with_graph[channel.name, step]
        made, away = mask_fill_zero(~absent(state, channel, signals), live), void(state, channel, signals)
        sent = wires.send(channel, step, made, tick.observed_signals, away)
        tick_read = sent.plan.first_tick if sent.plan.is_bookable else None
        for end in channel.synthetic_gradient.context.endpoint_values:
            sent.ends[end] = end_value(state, channel, end, step, tick_read)
        if not sent.plan.stays_in_window:
            window.sent.append((channel.name, sent))


def void(state: State, channel: Channel, signals: StepSignals) -> Mask:
    """Where a message is void as it is sent (rule 20)."""
    return simplified(absent(state, channel, signals))


def absent(state: State, channel: Channel, signals: StepSignals) -> Tensor:
    """[B] bool: where the sender or the receiver of a channel does not live, or its mask is 0 (rule 20)."""
    names = [f"alive.{life}" for life in channel.life_names]
    masks = map(signals.signals.get, (*names, channel.mask_name))
    return torch.stack([state.nowhere, *(mask.flatten() == 0 for mask in masks if mask is not None)]).any(0)
