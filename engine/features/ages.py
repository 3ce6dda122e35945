"""Ages: how old the messages that an agent reads are, as one more observation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.base.mask import NONE
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import Arrival
from antiphon.nets.step_numbers import stamp_number


def ages_of(agent: Agent, arrived: Sequence[Sequence[Arrival]], step: int) -> Tensor:
    """Return the ages, [rows, channels] in ticks of the senders, of the newest arrival of each incoming channel of an agent at `step`."""
    each = zip(agent.incoming, arrived, strict=True)
    return agent.inputs.layout.columns([_age(channel, arrivals, step) for channel, arrivals in each])


def _age(channel: Channel, arrivals: Sequence[Arrival], step: int) -> Tensor:
    """[rows]: 0 where nothing has come."""
    blank, held = torch.zeros_like(channel.zeros[:, 0]), channel.ledger.held
    if not arrivals or arrivals[-1].available is NONE:
        return blank
    newest = arrivals[-1]
    age: Tensor | int = step - newest.message.stamp
    if held is not None and held.stamp is not None and newest.predicted is NONE:
        age = stamp_number(step) - held.stamp
    return newest.available.fill((blank + age) / channel.ledger.sender.period)
