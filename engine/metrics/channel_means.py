"""Means over steps of what channels do, from one log entry to the next: a metric is an entry of `CHANNEL_MEANS`.

What a step adds is asked for in `MeanAccumulator.add`, which keeps the sums beside those of agents: on the device, by stack; saved by
member; in parts at the end of a channel that the metric is of (`end_of`). Each log entry has the means and begins them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from antiphon.base.mask import Mask
from antiphon.engine.heart.channel import Channel


class ChannelMean(NamedTuple):
    """A metric of channels that is a mean over steps."""

    metric: str
    concerns: Callable[[Channel], bool]
    """Whether a stack of channels has it; a setting that a run does not change."""
    of_step: Callable[[Channel, int], tuple[Tensor, Tensor] | None]
    """Returns what a step that has just been taken adds: a sum, and the number of what it is over, [K] each; None: nothing."""


def _dropped(channel: Channel, step: int) -> tuple[Tensor, Tensor] | None:
    message = channel.ledger.messages.get(step)
    if message is None:
        return None  # none is sent at this step
    sent = message.sent_rows
    return _count(channel, message.fate.lost & sent), _count(channel, sent)


def _count(channel: Channel, mask: Mask) -> Tensor:
    """The number of rows of each member in which a mask holds, [K] int64."""
    return channel.layout.sum_by_member(mask.tensor(channel.row_count, channel.content.zeros.device))


CHANNEL_MEANS = (ChannelMean("dropped", lambda channel: channel.ledger.may_lose, _dropped),)
