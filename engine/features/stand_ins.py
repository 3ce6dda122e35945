"""Stand-ins: what a receiver gets over a channel where the due message has not come (semantics 18, 24, 25).

In this order:
    a synthetic input       where the channel has one, the example goes on and the message is missing; over an `unlocked`
                            channel even where it has come, for there nobody waits: `StandIns.stand_in`, below
    the previous message    over a link that loses messages, or where arrivals are remembered: the newest that arrived, which
                            its inbox holds (`Inbox.read`)
    zeros                   after an episode's end (the read's mask), and before any message has been sent (no arrival:
                            `Constant` in window.py)
"""

from __future__ import annotations

from torch import Tensor

from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import Example
from antiphon.engine.features.contexts import Contexts
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Arrival, merged_signals
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.signals import StepSignals


class StandIns(Feature):
    """Puts synthetic inputs in the place of missing messages."""

    def __init__(self, forward_pass: ForwardPass) -> None:
        self.training = not forward_pass.deployed
        self.contexts = Contexts(forward_pass)

    def stand_in(self, channel: Channel, arrival: Arrival, step: int) -> Arrival:
        """Return what the tick at `step` reads; note what a channel's synthetic input can learn from.

        Args:
            arrival: What the inbox has: the due message, or the previous one.
        """
        due = arrival.due
        if channel.synthetic_input.model is None:
            return arrival
        if channel.synthetic_input.context.signal_specs and not due.signals.signals:
            return arrival  # made by an aligned agent before its first message
        context = self.contexts.of_input(channel, due, step)
        if due.plan.first_tick == step and due.void is not ALL:
            example = Example(due.value, context, None, ~due.missing, stamp=due.stamp)
            if channel.has_member_axis:
                example.restrict(example.valid, channel.layout.members_in(~due.void))
            channel.synthetic_input.examples.append(example)
        missing = _missing(channel, arrival)
        if missing is NONE:
            return arrival
        prediction = channel.synthetic_input.model.predict(context, channel.row_count, training=self.training)
        return _filled(arrival, constant(prediction), missing)


def _missing(channel: Channel, arrival: Arrival) -> Mask:
    """The environments in which the due message is missing, though its example goes on; over `unlocked` even if it came."""
    valid = ~arrival.due.void
    if channel.coupling.replaces_messages:
        return valid
    return valid & ~arrival.may_count


def _filled(arrival: Arrival, prediction: Tensor, missing: Mask) -> Arrival:
    """Return what is read where `prediction` [rows, size] stands in for the due message in `missing`."""
    signals, due, before = arrival.signals, arrival.due, arrival.value
    value = missing.zero_elsewhere(prediction) if before is None else missing.where(prediction, before)
    if signals is not None:
        merged = merged_signals(missing, due.signals.signals, signals.signals)
        signals = StepSignals(signals.step, merged)
    return Arrival(
        due,
        value,
        arrival.available | missing,
        may_count=arrival.may_count | missing,
        synthetic=missing,
        signals=signals,
    )
