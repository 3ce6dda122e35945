"""Stand-ins: what a receiver gets over a channel where the due message has not come (semantics 18, 24, 25).

In this order:
    a synthetic input       where the channel has one, the example goes on and the message is missing; over an `unlocked`
                            channel even where it has come, for there nobody waits: `StandIns.stand_in`, below
    the previous message    over a link that loses messages, or where arrivals are remembered: the newest that arrived, which
                            the mailbox holds (`Mailbox.receive` in heart/mailbox.py)
    zeros                   after an episode's end (the mailbox's mask), and before any message has been sent (no record:
                            `ForwardPass._value` in forward.py)
"""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.engine.features.contexts import Contexts
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import Delivery, Record
from antiphon.engine.heart.rows import EnvMask, mask_and, mask_not, mask_or
from antiphon.engine.heart.system import System

__all__ = ["StandIns"]


class StandIns:
    """Puts synthetic inputs in the place of missing messages.

    Args:
        system: The channels.
    """

    def __init__(self, system: System) -> None:
        self.contexts = Contexts(system)

    def stand_in(self, channel: Channel, delivery: Delivery, step: int) -> Delivery:
        """Return what the tick at `step` reads; note what a channel's synthetic input can learn from.

        Args:
            channel: The channel.
            delivery: What the mailbox has: the due message, or the previous one, or nothing.
            step: The tick's.
        """
        record = delivery.record
        if channel.input is None or channel.input_model_disabled or record is None:
            return delivery
        if channel.input_context and not record.step_signals.signals:
            return delivery  # made by an aligned agent before its first message
        context = self.contexts.of_input(channel, record, step)
        if record.first_use == step and record.void is not True:
            channel.add_input_example(context, record, _arrived(record))
        mask = mask_and(_missing(delivery, always=channel.coupling == "unlocked"), channel.stand_in_allowed)
        if mask is False:
            return delivery
        return channel.mailbox.stand_in(
            delivery, constant(channel.input.predict(context, channel.rows)), mask
        )


def _arrived(record: Record) -> Tensor | None:
    """[rows] bool: where a message came whose example goes on; None: everywhere."""
    away = mask_or(False if record.lost is None else record.lost, record.void)
    return torch.logical_not(away) if isinstance(away, Tensor) else None


def _missing(delivery: Delivery, *, always: bool) -> EnvMask:
    """Return the environments in which the due message is missing, though its example goes on.

    Args:
        delivery: What the tick found.
        always: Whether it counts as missing even where it has come (`unlocked`).
    """
    if delivery.record is None:
        return False
    valid = mask_not(delivery.record.void)
    if always or valid is False:
        return valid
    return False if delivery.counted is True else mask_and(valid, mask_not(delivery.counted))
