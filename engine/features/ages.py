"""Ages: how old the messages that an agent reads are, as one more observation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import Read
from antiphon.engine.heart.rows import mask_fill_zero
from antiphon.nets.step_numbers import stamp_number


def ages_of(agent: Agent, reads: Sequence[Read], step: int) -> Tensor:
    """Return the ages, [rows, channels] in ticks of the senders, of the newest read of each incoming channel of an agent at `step`."""
    each = zip(agent.incoming, reads, strict=True)
    return agent.inputs.layout.columns([_age(channel, read, step) for channel, read in each])


def _age(channel: Channel, read: Read, step: int) -> Tensor:
    """[rows]: 0 where nothing has come."""
    blank, held = torch.zeros_like(channel.zeros[:, 0]), channel.ledger.held
    if read.message is None or read.available is False:
        return blank
    age: Tensor | int = step - read.message.stamp
    if held is not None and held.stamp is not None and read.predicted is False:
        age = stamp_number(step) - held.stamp
    return mask_fill_zero(read.available, (blank + age) / channel.ledger.sender.period)
