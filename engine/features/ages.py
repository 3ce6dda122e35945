"""Ages: how old the messages that an agent reads are, as one more observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import torch
from torch import Tensor

from antiphon.base.mask import NONE
from antiphon.engine.heart.agent import AGE
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Arrival
from antiphon.engine.heart.feature import FeatureOfSystem
from antiphon.engine.heart.notes import Note
from antiphon.engine.heart.roles import ROWS
from antiphon.engine.heart.window import Tick, Window
from antiphon.nets.step_numbers import stamp_number


@dataclass(slots=True)
class MessageAges(Note):
    """How old the messages were that a tick read."""

    columns: Tensor | None = field(default=None, metadata=ROWS)
    """[rows, channels], in ticks of the senders."""


class Ages(FeatureOfSystem):
    """Ages of messages, for the agents of a system that observe them."""

    def after_read(
        self, tick: Tick, arrivals_by_channel: Sequence[Sequence[Arrival]], window: Window
    ) -> None:
        """Note the ages of what a tick has read, [rows, channels] in ticks of the senders, where its agent observes them."""
        agent = self.system.agents[tick.agent_name]
        if AGE in agent.inputs.observed.signal_names:
            channel_arrivals = zip(agent.connections.incoming, arrivals_by_channel, strict=True)
            ages = [_age(channel, arrivals, tick.step) for channel, arrivals in channel_arrivals]
            tick.notes[MessageAges] = MessageAges(agent.inputs.fan_in.columns(ages))

    def message_ages(self, tick: Tick) -> Tensor | None:
        ages = MessageAges.of(tick)
        return None if ages is None else ages.columns


def _age(channel: Channel, arrivals: Sequence[Arrival], step: int) -> Tensor:
    """[rows]: 0 where nothing has come."""
    blank, held = torch.zeros_like(channel.content.zeros[:, 0]), channel.wire.inbox.stamp
    available = reduce(or_, (arrival.available for arrival in arrivals), NONE)
    if available is NONE:
        return blank
    newest = arrivals[-1]
    age: Tensor | int = step - newest.due.stamp
    if held is not None and newest.synthetic is NONE:
        age = stamp_number(step) - held
    return available.zero_elsewhere((blank + age) / channel.wire.timetable.sender_clock.tick_period)
