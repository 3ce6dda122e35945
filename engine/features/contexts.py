"""Contexts: what the predictors of a channel are conditioned on: signals of the step, and of the channel's two endpoints.

Which values of the endpoints there are, and what each of them is, is in comms/endpoint_values.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.network import STATE
from antiphon.comms.backward_requests import constant
from antiphon.comms.endpoint_values import ENDPOINT_VALUES, EndpointValue, Measure
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import WindowGrid
from antiphon.engine.heart.ends import Received, Sent
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.notes import Note
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.roles import ROWS
from antiphon.engine.heart.signals import EpisodeEnds
from antiphon.engine.heart.window import Tick
from antiphon.nets.step_numbers import stamp_number


@dataclass(slots=True)
class NewestStates(Note):
    """The newest states of an agent."""

    states: list[tuple[int, Tensor]] = field(default_factory=list, metadata=ROWS)
    """States by step, oldest first, [rows, state size]."""


class Contexts(Feature):
    """Encodes the contexts of a system's predictors, [rows, features] each.

    Args:
        of: What reads over the channels, or trains their predictors.
    """

    def __init__(self, of: ForwardPass | PredictorTrainer) -> None:
        self.system = of.system
        self._phases: dict[int, Tensor] = {}
        """By the ticks of a window: each of them one-hot, and zeros, [ticks + 1, ticks]."""

    def predictor_context(self, context: Tensor | None, channel: Channel, sent: Sent) -> Tensor:
        """Return what the synthetic gradient of a message is conditioned on, where values of the endpoints are among it.

        Args:
            context: [rows, features]: the environment's signals, encoded.
        """
        names = channel.synthetic_gradient.context.endpoint_values
        return _joined(context, [sent.ends[name] for name in names])

    def of_input(self, channel: Channel, due: Received, step: int) -> Tensor | None:
        """Return what a synthetic input that stands in for `due` at the tick at `step` is conditioned on."""
        context = channel.synthetic_input.context
        signals = due.signals.context_features(context.signal_specs, self.system.dtype)
        if signals is not None:
            signals = channel.layout.to_rows(signals)
        if not context.endpoint_values:
            return signals
        endpoints = context.endpoint_values.items()
        return _joined(signals, [self._of_arrival(channel, *endpoint, due, step) for endpoint in endpoints])

    def _of_arrival(
        self, channel: Channel, name: str, windows: WindowGrid | None, due: Received, tick: int
    ) -> Tensor:
        """[rows, features]: a value of a channel's endpoints, for a message that its receiver uses at `tick`."""
        value = ENDPOINT_VALUES[name]
        if value.is_held:
            return self._age(channel, due.stamp) if value.measure is Measure.NUMBER else self._held(channel)
        return self.phase(channel, value, windows, due.stamp, tick)

    @staticmethod
    def _held(channel: Channel) -> Tensor:
        inbox = channel.wire.inbox
        if inbox.prior_value is None or inbox.prior_stamp is None:
            return channel.content.zeros
        return torch.where((inbox.prior_stamp >= 0).unsqueeze(1), inbox.prior_value, 0.0)

    def _age(self, channel: Channel, stamp: int) -> Tensor:
        prior = channel.wire.inbox.prior_stamp
        if prior is None:
            return channel.content.zeros.new_zeros(len(channel.content.zeros), 1)
        age = torch.where(prior >= 0, stamp_number(stamp) - prior, 0)
        return age.to(self.system.dtype).unsqueeze(1)

    def phase(
        self, channel: Channel, value: EndpointValue, windows: WindowGrid | None, stamp: int, tick: int | None
    ) -> Tensor:
        """Return which tick of its window the agent at an end is at, one-hot; zeros where it never ticks."""
        assert windows is not None
        sends, timetable = value.end == "from", channel.wire.timetable
        period = (timetable.sender_clock if sends else timetable.receiver_clock).tick_period
        count, place = windows.max_ticks(period), stamp if sends else tick
        if count not in self._phases:
            self._phases[count] = torch.eye(
                count + 1, count, dtype=self.system.dtype, device=self.system.device
            )
        episode_start = self.system.schedule.episode_start
        index = count if place is None else windows.position(place, period, episode_start)
        return self._phases[count][index].expand(channel.row_count, count)


def _joined(first: Tensor | None, rest: list[Tensor]) -> Tensor:
    columns = [*([] if first is None else [first]), *rest]
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)


class EndpointStates(Feature):
    """What the predictors of a system are shown of the endpoints of channels later on, as it was when a message was sent (semantics 25)."""

    def __init__(self, forward_pass: ForwardPass) -> None:
        self.system, self.contexts = forward_pass.system, Contexts(forward_pass)
        steps = {name: agent.state_steps() for name, agent in self.system.agents.items()}
        self._state_steps = {name: count for name, count in steps.items() if count is not None}
        """The result of `Agent.state_steps`, by agent whose states are kept."""

    def before_send(self, tick: Tick) -> None:
        """Keep the state of a tick, where a predictor is conditioned on states of its agent."""
        if tick.agent_name not in self._state_steps:
            return
        agent = self.system.agents[tick.agent_name]
        oldest = agent.clock.latest(tick.step - self._state_steps[tick.agent_name])
        newest = NewestStates.ensure(agent)
        newest.states = [(step, state) for step, state in newest.states if oldest is None or step >= oldest]
        newest.states.append((tick.step, constant(tick.ports[STATE])))

    def after_enter(self, channel: Channel, sent: Sent) -> None:
        """Keep what the message's predictor is shown of the endpoints."""
        # an episode's last state, which only its own window reads, is shown no tick of a reader
        tick = sent.plan.first_tick if sent.plan.is_bookable else None
        for name, windows in channel.synthetic_gradient.context.endpoint_values.items():
            value = ENDPOINT_VALUES[name]
            if value.is_returned:
                newest = channel.wire.outbox.newest
                sent.ends[name] = channel.content.zeros if newest is None else newest
            elif value.measure is Measure.STATE:
                sent.ends[name] = self._state(channel, value, sent.stamp)
            else:
                sent.ends[name] = self.contexts.phase(channel, value, windows, sent.stamp, tick)

    def _state(self, channel: Channel, value: EndpointValue, step: int) -> Tensor:
        """The newest state of the agent at an end that has crossed the link, [rows, state size]; zeros before its first."""
        sends = value.end == "from"
        agent = self.system.agents[channel.sender if sends else channel.receiver]
        to_rows = channel.output_from_port if sends else channel.rows_from_receiver
        newest = NewestStates.of(agent)
        delay = 0 if sends else channel.wire.timetable.delay
        crossed = [state for at, state in ([] if newest is None else newest.states) if at <= step - delay]
        if crossed:
            return to_rows(crossed[-1])
        size = agent.learner.network.state_size
        return torch.zeros(channel.row_count, size, dtype=self.system.dtype, device=self.system.device)

    def episodes_end(self, step: int, ends: EpisodeEnds) -> None:
        """Forget the states of episodes that have ended (semantics 20)."""
        for name in self._state_steps:
            agent = self.system.agents[name]
            if (newest := NewestStates.of(agent)) is not None:
                going_on = ~agent.episodes_over(ends)
                newest.states = [
                    (state_step, going_on.zero_elsewhere(state)) for state_step, state in newest.states
                ]
