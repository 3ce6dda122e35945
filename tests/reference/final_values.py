"""Values of final observations, which replace what a truncation cuts off: one more tick, of which nothing else is kept (rule 40)."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor

from antiphon.agents.network import VALUE
from antiphon.comms import Mask
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Received
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.window import Constant, Tick, Window
from antiphon.scenarios.agent_specs import AGE
from tests.reference import wires
from tests.reference.forward import critic_observed, evaluate, signals_of, void, with_stand_in
from tests.reference.state import State


@torch.no_grad()
def note_final_values(state: State, step: int, final: StepSignals) -> None:
    """Enter in the policies' newest ticks the values of the final observations of episodes that `step` truncated."""
    for agent in state.agents.values():
        ticks = [tick for tick in state.group_of[agent.name].window.ticks() if tick.agent_name == agent.name]
        if agent.goal is None or agent.policy is None or not agent.policy.needs_value or not ticks:
            continue
        tick, rewards = ticks[-1], agent.goal.rewards
        assert rewards is not None
        signals = tick.outcomes[-1]
        terminated, truncated = (signals.signals[name] > 0 for name in rewards.end_names)
        rows = truncated & ~terminated
        if agent.life_name:  # it may live again at once, and observe that
            rows &= final.signals[f"_final.{agent.life_name}"]
        if signals.step != step or not rows.any():
            continue
        value = _value(state, agent, step, final)
        if value is None:
            continue
        before = tick.final_known.tensor(state.batch, rows.device)
        if tick.final_value is not None:  # of the episode that the tick itself was in
            value = torch.where(before, tick.final_value, value)
        tick.final_value, tick.final_known = value, Mask.of(before | rows)


def _value(state: State, agent: Agent, step: int, final: StepSignals) -> Tensor | None:
    """[B]: what an agent's network, or its critic, estimates; None: something that it reads is not known."""
    if not agent.inputs.critic_observed.signal_names:
        tick = _next_tick(state, agent, step, final)
        return None if tick is None else tick.ports[VALUE][:, 0]
    if not all(name in final.signals for name in agent.inputs.critic_observed.signal_names):
        return None
    learner = agent.learner
    layouts = () if len(learner.critic.input_shape) == 1 else agent.inputs.critic_observed.map_layouts
    tick = Tick(agent.clock.after(step), agent.name, final, [])
    before = state.group_of[agent.name].window.statistics_before
    start = before.get(state.system.learner_name_by_agent[agent.name], learner.buffers)
    x = torch.cat(critic_observed(state, tick, start, layouts), 1)
    values, _ = learner.values(learner.buffers, x)
    return values[:, 0]


def _next_tick(state: State, agent: Agent, step: int, final: StepSignals) -> Tick | None:
    """An agent's next tick after `step`, if it showed the final observations; None: something that it reads is not known."""
    if agent.inputs.align_channel_name is None and not all(
        n == AGE or n in final.signals for n in agent.inputs.observed.signal_names
    ):
        return None
    tick, ages = Tick(agent.clock.after(step), agent.name, final, []), []
    with ExitStack() as contexts:
        for channel in agent.connections.read_channels:
            imagined = _imagined(state, channel, tick.step, step, final)
            if imagined is None:
                return None
            contexts.enter_context(wires.imagining(channel, imagined))
            found = wires.arrivals(channel, tick.step)
            if channel.synthetic_input.model is not None and found:
                found = [with_stand_in(state, channel, found[-1], tick.step)]
            if channel.name == agent.inputs.align_channel_name:
                tick.observed_signals = signals_of(found)
            constants = [Constant(channel.name, one.value, one.available) for one in found] or [
                Constant(channel.name)
            ]
            if channel is agent.connections.state_channel:
                tick.state_read = constants[-1]
                continue
            tick.reads_by_channel.append([*constants])
            ages.append(wires.age(channel, found, tick.step))
    if ages and AGE in agent.inputs.observed.signal_names:
        tick.ages = torch.stack(ages, 1)
    start = state.group_of[agent.name].window.statistics_before
    evaluate(state, [tick], Window(statistics_before=start), agent.learner.buffers)
    return tick


def _imagined(
    state: State, channel: Channel, at: int, step: int, final: StepSignals
) -> list[Received] | None:
    """The messages that a tick at `at` would read and that would be sent after `step`; None: they are not known."""
    delay, sender = channel.wire.timetable.delay, channel.wire.timetable.sender_clock
    steps = range(0) if channel.carries_state else range(step + 1, at - delay + 1)
    stamps = [stamp for stamp in steps if sender.ticks_at(stamp)]
    if channel.wire.timetable.slots == 1:
        stamps = stamps[-1:]
    if not stamps:
        return []
    source = _next_tick(state, state.agents[channel.sender], step, final)
    if source is None:
        return None
    live = source.ports[channel.content.port_name]
    of = void(state, channel, final)
    if channel.content.sampler is not None:
        live, _ = channel.content.sampler.send(live, stamps[0])
    return [wires.carried(channel, stamp, live, source.observed_signals, of) for stamp in stamps]
