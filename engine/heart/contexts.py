"""What agents and predictors see beside messages: their ages, values of a channel's two ends, and what stands in for a message.

A tick gets over a channel, in this order (rules 18, 24, 25):

    a synthetic input       where the channel has one, the example goes on and the message is missing; over an `unlocked`
                            channel even where it has come, for there nobody waits: `Contexts.stand_in`
    the previous message    over a link that loses messages, or where arrivals are remembered: the newest that arrived,
                            which the inbox holds (`Inbox.read`)
    zeros                   after an episode's end (the read's mask), and before any message has been sent

The values of the ends are listed in comms/endpoint_values.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

import torch
from torch import Tensor

from antiphon.agents.network import STATE
from antiphon.comms.backward_requests import constant
from antiphon.comms.endpoint_values import ENDPOINT_VALUES, EndpointValue, Measure
from antiphon.comms.examples import Example
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import WindowGrid
from antiphon.engine.heart.ends import Arrival, Received, Sent, merged_signals
from antiphon.engine.heart.signals import EpisodeEnds, StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import Tick
from antiphon.nets.mask import ALL, NONE
from antiphon.nets.step_numbers import stamp_number


def message_age(channel: Channel, arrivals: Sequence[Arrival], step: int) -> Tensor:
    """Return how old the newest message is that a tick has read over a channel, [rows] in ticks of the sender; 0 where
    nothing has come."""
    blank, held = torch.zeros_like(channel.content.zeros[:, 0]), channel.wire.inbox.held_stamp
    available = reduce(or_, (arrival.available for arrival in arrivals), NONE)
    if available is NONE:
        return blank
    newest = arrivals[-1]
    age: Tensor | int = step - newest.due.stamp
    if held is not None and newest.synthetic is NONE:
        age = stamp_number(step) - held
    return available.zero_elsewhere((blank + age) / channel.wire.timetable.sender_clock.tick_period)


class Contexts:
    """Makes what the predictors of a system are conditioned on, and puts synthetic inputs in the place of messages."""

    def __init__(self, system: System, *, deployed: bool) -> None:
        self.system, self.training = system, not deployed
        self._phases: dict[int, Tensor] = {}
        """By the ticks of a window: each of them one-hot, and zeros, [ticks + 1, ticks]."""
        self._shown_agents = {
            name: agent for name, agent in system.agents.items() if agent.oldest_shown_state(0) is not None
        }
        """The agents whose states predictors are shown."""

    # --- the values of a channel's ends ----------------------------------------------------------------------

    def keep_state(self, tick: Tick) -> None:
        """Keep the state of a tick, where a predictor is conditioned on states of its agent."""
        agent = self._shown_agents.get(tick.agent_name)
        if agent is None or (shown := agent.oldest_shown_state(tick.step)) is None:
            return
        oldest = agent.clock.latest(shown) or 0
        states = [(step, state) for step, state in agent.kept.newest_states if step >= oldest]
        agent.kept.newest_states = [*states, (tick.step, constant(tick.ports[STATE]))]

    def of_ends(self, channel: Channel, sent: Sent) -> dict[str, Tensor]:
        """Return what the predictor of a message is shown of the ends, as it is when the message is sent (rule 25)."""
        # an episode's last state, which only its own window reads, is shown no tick of a reader
        tick, ends = sent.plan.first_tick if sent.plan.is_bookable else None, dict[str, Tensor]()
        for name, windows in channel.synthetic_gradient.context.endpoint_values.items():
            value = ENDPOINT_VALUES[name]
            if value.is_returned:
                newest = channel.wire.outbox.newest
                ends[name] = channel.content.zeros if newest is None else newest
            elif value.measure is Measure.STATE:
                ends[name] = self._state(channel, value, sent.stamp)
            else:
                ends[name] = self._phase(channel, value, windows, sent.stamp, tick)
        return ends

    def _state(self, channel: Channel, value: EndpointValue, step: int) -> Tensor:
        """The newest state of the agent at an end that has crossed the link, [rows, state size]; zeros before its first."""
        sends = value.end == "from"
        agent = self.system.agents[channel.sender if sends else channel.receiver]
        to_rows = channel.output_from_port if sends else channel.rows_from_receiver
        newest = step if sends else channel.wire.timetable.crossed_by(step)
        crossed = [state for at, state in agent.kept.newest_states if at <= newest]
        if crossed:
            return to_rows(crossed[-1])
        return self.system.zeros(channel.row_count, agent.learner.network.state_size)

    def _phase(
        self, channel: Channel, value: EndpointValue, windows: WindowGrid | None, stamp: int, tick: int | None
    ) -> Tensor:
        """Which tick of its window the agent at an end is at, one-hot; zeros where it never ticks."""
        assert windows is not None
        sends, timetable = value.end == "from", channel.wire.timetable
        period = (timetable.sender_clock if sends else timetable.receiver_clock).tick_period
        count, place = windows.max_ticks(period), stamp if sends else tick
        if count not in self._phases:
            self._phases[count] = torch.eye(count + 1, count).to(self.system.zeros())
        episode_start = self.system.schedule.episode_start
        index = count if place is None else windows.position(place, period, episode_start)
        return self._phases[count][index].expand(channel.row_count, count)

    def end_episodes(self, ends: EpisodeEnds) -> None:
        """Forget the states of episodes that have ended (rule 20)."""
        for agent in self._shown_agents.values():
            going_on = ~ends.rows_over(agent.layout, agent.life_names)
            agent.kept.newest_states = [
                (step, going_on.zero_elsewhere(state)) for step, state in agent.kept.newest_states
            ]

    # --- synthetic inputs ------------------------------------------------------------------------------------

    @staticmethod
    def keep_example(channel: Channel, due: Received, context: Tensor | None) -> None:
        """Keep a message for a channel's synthetic input, which learns from it at the end of the step."""
        if due.void is ALL:
            return
        example = Example(due.value, context, None, ~due.missing, stamp=due.stamp)
        if channel.layout.has_member_axis:
            example.restrict(example.valid, channel.layout.members_in(~due.void))
        channel.synthetic_input.examples.append(example)

    def stand_in(self, channel: Channel, arrival: Arrival, step: int) -> Arrival:
        """Return what the tick at `step` reads: the prediction where the due message is missing, though its example goes on.

        The message's first tick keeps it as an example.

        Args:
            arrival: What the inbox has: the due message, or the previous one.
        """
        model, due = channel.synthetic_input.model, arrival.due
        if model is None or (channel.synthetic_input.context.signal_specs and not due.signals.signals):
            return arrival  # an aligned agent has made it before its first message, without the context's signals
        context = self._input_context(channel, due, step)
        if due.plan.first_tick == step:
            self.keep_example(channel, due, context)
        missing = ~due.void
        if not channel.coupling.replaces_messages:
            missing &= ~arrival.may_count
        if missing is NONE:
            return arrival
        prediction = constant(model.predict(context, channel.row_count, training=self.training))
        signals, before = arrival.signals, arrival.value
        if signals is not None:
            merged = merged_signals(missing, due.signals.signals, signals.signals)
            signals = StepSignals(signals.step, merged)
        return Arrival(
            due,
            missing.zero_elsewhere(prediction) if before is None else missing.where(prediction, before),
            arrival.available | missing,
            may_count=arrival.may_count | missing,
            synthetic=missing,
            signals=signals,
        )

    def _input_context(self, channel: Channel, due: Received, step: int) -> Tensor | None:
        """[rows, features]: what a synthetic input that stands in for `due` at the tick at `step` is conditioned on."""
        context = channel.synthetic_input.context
        of_ends = list[Tensor]()
        for name, windows in context.endpoint_values.items():
            value = ENDPOINT_VALUES[name]
            if value.is_held:
                of_ends.append(self._prior(channel, value, due.stamp))
            else:
                of_ends.append(self._phase(channel, value, windows, due.stamp, step))
        return context.features(due.signals, of_ends, channel.layout, self.system.dtype)

    def _prior(self, channel: Channel, value: EndpointValue, stamp: int) -> Tensor:
        """The message that was held before the one due, of `stamp`, [rows, size], or the steps between them, [rows, 1]; zeros
        where none was held."""
        inbox, is_message = channel.wire.inbox, value.measure is Measure.MESSAGE
        if inbox.prior_value is None or inbox.prior_stamp is None:
            return channel.content.zeros if is_message else channel.content.zeros[:, :1]
        prior = inbox.prior_stamp.unsqueeze(1)
        shown = inbox.prior_value if is_message else stamp_number(stamp) - prior
        return torch.where(prior >= 0, shown, 0).to(self.system.dtype)
