"""Contexts: what the predictors of a channel are conditioned on: signals of the step, and of the channel's two endpoints.

Which values of the endpoints there are, and what each of them is, is in comms/endpoint_values.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.network import STATE
from antiphon.comms.backward_requests import constant
from antiphon.comms.endpoint_values import ENDPOINT_VALUES, STATES, Measure
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import WindowGrid
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.notes import Note
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.roles import PLAIN, ROWS
from antiphon.engine.heart.signals import EpisodeEnds
from antiphon.engine.heart.window import Tick
from antiphon.nets.step_numbers import stamp_number


@dataclass(slots=True)
class EndpointValues(Note):
    """The endpoints of a channel as they were when a message was sent."""

    newest_returned: Tensor | None = field(default=None, metadata=ROWS)
    """[rows, size]: the newest gradient that had come back."""
    states: dict[str, Tensor] = field(default_factory=dict, metadata=ROWS)
    """The states that its predictor is shown, [rows, state size]: the far one has crossed the link."""
    episode_start: int = field(default=0, metadata=PLAIN)
    """Step at which the message's episode began, where that is a window."""


@dataclass(slots=True)
class NewestStates(Note):
    """The newest states of an agent."""

    states: list[tuple[int, Tensor]] = field(default_factory=list, metadata=ROWS)
    """States by step, oldest first, [rows, state size]."""


class Contexts(Feature):
    """Encodes the contexts of a system's predictors, [B, features] each.

    Args:
        of: What reads over the channels, or trains their predictors.
    """

    def __init__(self, of: ForwardPass | PredictorTrainer) -> None:
        self.system = of.system
        self._phases: dict[int, Tensor] = {}
        """By the ticks of a window: each of them one-hot, and zeros, [ticks + 1, ticks]."""

    def predictor_context(self, context: Tensor | None, channel: Channel, message: Message) -> Tensor:
        """Return what the synthetic gradient of `message` is conditioned on, where values of the endpoints are among it.

        Args:
            context: [rows, features]: the environment's signals, encoded.
        """
        endpoints, plan = channel.synthetic_gradient.context.endpoint_values.items(), message.read_plan
        # an episode's last state, which only its own window reads, is shown no tick of a reader
        tick = plan.first_tick if plan.is_bookable else None
        return _joined(context, [self._endpoint(channel, *endpoint, message, tick) for endpoint in endpoints])

    def of_input(self, channel: Channel, message: Message, step: int) -> Tensor | None:
        """Return what a synthetic input that stands in for `message` at the tick at `step` is conditioned on."""
        signals = message.step_signals.context_features(
            channel.synthetic_input.context.signal_specs, self.system.dtype
        )
        if signals is not None:
            signals = channel.layout.to_rows(signals)
        if not channel.synthetic_input.context.endpoint_values:
            return signals
        endpoints = channel.synthetic_input.context.endpoint_values.items()
        return _joined(signals, [self._endpoint(channel, *endpoint, message, step) for endpoint in endpoints])

    def _endpoint(
        self, channel: Channel, name: str, windows: WindowGrid | None, message: Message, tick: int | None
    ) -> Tensor:
        """[rows, features]: a value of a channel's endpoints, for a message that its receiver uses at `tick`."""
        noted = EndpointValues.of(message) or EndpointValues()
        value, ledger = ENDPOINT_VALUES[name], channel.ledger
        if value.is_returned:
            return channel.content.zeros if noted.newest_returned is None else noted.newest_returned
        if value.is_held:
            is_age = value.measure is Measure.NUMBER
            return self._age(channel, message.stamp) if is_age else self._held(channel)
        sends, agent = value.end == "from", value.agent_of(channel)
        if value.measure is Measure.STATE:  # zeros before its first
            if name in noted.states:
                return noted.states[name]
            size = self.system.agents[agent].learner.network.state_size
            return torch.zeros(channel.row_count, size, dtype=self.system.dtype, device=self.system.device)
        period = (ledger.timetable.sender_clock if sends else ledger.timetable.receiver_clock).tick_period
        assert windows is not None
        return self._phase(channel, windows, period, message.stamp if sends else tick, noted.episode_start)

    @staticmethod
    def _held(channel: Channel) -> Tensor:
        held = channel.ledger.held_messages
        if held is None or held.prior_value is None or held.prior_stamp is None:
            return channel.content.zeros
        return torch.where((held.prior_stamp >= 0).unsqueeze(1), held.prior_value, 0.0)

    def _age(self, channel: Channel, stamp: int) -> Tensor:
        prior = None if channel.ledger.held_messages is None else channel.ledger.held_messages.prior_stamp
        if prior is None:
            return channel.content.zeros.new_zeros(len(channel.content.zeros), 1)
        age = torch.where(prior >= 0, stamp_number(stamp) - prior, 0)
        return age.to(self.system.dtype).unsqueeze(1)

    def _phase(
        self, channel: Channel, windows: WindowGrid, period: int, tick: int | None, episode_start: int
    ) -> Tensor:
        """Which tick of its window an agent is at, one-hot; zeros where it never ticks."""
        count = windows.max_ticks(period)
        if count not in self._phases:
            self._phases[count] = torch.eye(
                count + 1, count, dtype=self.system.dtype, device=self.system.device
            )
        tick_index = count if tick is None else windows.position(tick, period, episode_start)
        return self._phases[count][tick_index].expand(channel.row_count, count)


def _joined(first: Tensor | None, rest: list[Tensor]) -> Tensor:
    columns = [*([] if first is None else [first]), *rest]
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)


class EndpointStates(Feature):
    """What the predictors of a system are shown of the endpoints of channels later on, as it was when a message was sent (semantics 25)."""

    def __init__(self, forward_pass: ForwardPass) -> None:
        self.system = forward_pass.system
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

    def after_enter(self, channel: Channel, message: Message) -> None:
        """Note what a predictor is shown of the endpoints."""
        if not (
            channel.synthetic_gradient.context.endpoint_values
            or channel.synthetic_input.context.endpoint_values
        ):
            return
        returned = channel.ledger.newest_returned
        newest = None if returned is None else returned.value
        message.notes[EndpointValues] = EndpointValues(
            newest, self._states(channel, message.stamp), self.system.schedule.episode_start
        )

    def _states(self, channel: Channel, step: int) -> dict[str, Tensor]:
        states = {}
        for endpoint, name, delay, to_rows in (
            (STATES["from"], channel.sender, 0, channel.output_from_port),
            (STATES["to"], channel.receiver, channel.ledger.timetable.delay, channel.rows_from_receiver),
        ):
            agent = self.system.agents.get(name)
            if agent is None or endpoint not in channel.synthetic_gradient.context.endpoint_values:
                continue
            newest = NewestStates.of(agent)
            crossed = (
                []
                if newest is None
                else [state for state_step, state in newest.states if state_step <= step - delay]
            )
            if crossed:
                states[endpoint] = to_rows(crossed[-1])
        return states

    def episodes_end(self, step: int, ends: EpisodeEnds) -> None:
        """Forget the states of episodes that have ended (semantics 20)."""
        for name in self._state_steps:
            agent = self.system.agents[name]
            if (newest := NewestStates.of(agent)) is not None:
                going_on = ~agent.episodes_over(ends)
                newest.states = [
                    (state_step, going_on.zero_elsewhere(state)) for state_step, state in newest.states
                ]
