"""Ends of a channel: what arrives at its receiver, what comes back for it, and when (rules 4, 5, 17-20, 24).

Which receiver ticks may use a message, and which receiver windows have to close before its gradient is complete, follow
from the clocks alone. Losses on the link and episode ends only decide, per environment, what counts. Here a mask is [B]
bool; what is written in shared messages and reads is `ALL` or `NONE` where all environments agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from antiphon.comms import Mask
from antiphon.comms.backward_requests import value_of
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Arrival, Received, Sent
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.timetable import ReadPlan
from antiphon.engine.heart.window import CountedRead, Window
from antiphon.nets.mask import ALL, NONE

RowMask = Tensor
"""[B] bool: the parallel environments that something holds for."""


def as_mask(mask: Mask | Tensor | None, like: Tensor) -> RowMask:
    """Return a mask that may be one for all environments as [B], B the rows of `like`; None: nowhere."""
    own = mask.plain if isinstance(mask, Mask) else mask
    return own if isinstance(own, Tensor) else torch.full_like(like[:, 0], bool(own), dtype=torch.bool)


def simplified(mask: RowMask) -> Mask:
    """Return a mask as shared messages have it: `ALL` or `NONE` where all environments agree."""
    return ALL if mask.all() else Mask.of(mask) if mask.any() else NONE


def select(mask: RowMask, one: Tensor, other: Tensor) -> Tensor:
    """Return `one` [B, …] where `mask` [B] holds, and `other` elsewhere."""
    return torch.where(mask.view(-1, *([1] * (one.dim() - 1))), one, other)


def mask_fill_zero(mask: RowMask, value: Tensor) -> Tensor:
    """Return `value` [B, …] where `mask` [B] holds, zeros elsewhere: put, never multiplied (rule 19: NaN x 0)."""
    return select(mask, value, torch.zeros_like(value))


def send(channel: Channel, step: int, live: Tensor, signals: StepSignals, void: Mask) -> Sent:
    """Send a message [B, …]; ticks between its arrival and the next one's use it (rule 5)."""
    wire, link, value = channel.wire, channel.wire.link, value_of(live)
    timetable, grid = wire.timetable, wire.timetable.receiver_grid
    start, stop = step + timetable.delay, timetable.sender_clock.after(step) + timetable.delay
    ticks = range(timetable.receiver_clock.at_or_after(start), stop, timetable.receiver_clock.tick_period)
    if not ticks and timetable.slots > 1:  # a newer one is there by then: both are read
        ticks = range(ticks.start, ticks.start + 1)
    within = channel.carries_state and grid.number_at(ticks.start) == grid.number_at(step)
    first, returns = ticks[0] if ticks else None, bool(ticks) and not within  # there it has its graph
    windows = {grid.number_at(tick) for tick in ticks if returns}
    plan = ReadPlan(first, windows, ticks)
    credited = ~void if returns else NONE
    sent = Sent(step, value, signals, plan, ~void, void, credited, finished_at=None if returns else step)
    sent.window_open = returns or not channel.carries_state
    _note_newest(channel, step)  # the gradients of this step have come back by now
    wire.outbox.sent[step] = sent
    lost = link.lost(step, len(value), value.device)
    wire.inbox.messages[step] = Received(step, link.carry(step, value), signals, plan, lost, void, {*windows})
    return sent


def delete_spent(channel: Channel, step: int) -> None:
    """Drop messages of no more use after a step's ticks, unless newest arrivals are held and it is not among them (rule 17)."""
    outbox, inbox, timetable = channel.wire.outbox, channel.wire.inbox, channel.wire.timetable
    due = timetable.sender_clock.latest(step - timetable.delay)
    for stamp, sent in list(outbox.sent.items()):
        learned = sent.finished_at is not None and (sent.back_at is None or sent.back_at < step)
        if learned and due is not None and stamp < due and not sent.window_open:
            del outbox.sent[stamp]
    for stamp, received in list(inbox.messages.items()):
        replaced = due is not None and stamp < due and (not inbox.holds or stamp <= inbox.newest_due_seen)
        if replaced and not received.open_windows:
            del inbox.messages[stamp]


def take(channel: Channel, step: int) -> list[Sent]:
    """Return the messages whose gradient reaches the sender at `step`, once."""
    _note_newest(channel, step)
    return channel.wire.outbox.back.pop(step, [])


def _note_newest(channel: Channel, step: int) -> None:
    outbox = channel.wire.outbox
    for sent in outbox.back.get(step, []):
        if not channel.wire.keeps_returned or sent.returned is None:
            continue
        before = channel.content.zeros if outbox.newest is None else outbox.newest
        newest = select(as_mask(sent.counted, before), sent.returned, before)
        outbox.newest = mask_fill_zero(~as_mask(sent.void, before), newest)


def arrivals(channel: Channel, step: int) -> list[Arrival]:
    """Return what the tick at `step` reads, oldest first: one message, or as many as `read` puts side by side; none: empty."""
    messages, timetable = channel.wire.inbox.messages, channel.wire.timetable
    delay = timetable.delay
    stamp, stamps = timetable.sender_clock.latest(step - delay), list[int]()
    since = step - timetable.receiver_clock.tick_period - delay
    # `concat` reads all that came since the receiver's tick before, and the newest in any case (rule 18).
    while stamp is not None and (not stamps or (timetable.slots > 1 and stamp > since)):
        stamps.insert(0, stamp)
        stamp = timetable.sender_clock.latest(stamp - 1)
    return [_arrival(channel, messages[stamp]) for stamp in stamps if stamp in messages]


def _arrival(channel: Channel, due: Received) -> Arrival:
    alive, held = ~as_mask(due.void, due.value), channel.wire.inbox
    if not held.holds:
        signals = due.signals if alive.any() else StepSignals(-1, {})
        value = mask_fill_zero(alive, due.value)
        valid = Mask.of(alive)
        return Arrival(due, value, valid, valid, signals=signals)
    # A link that loses: the newest message that arrived, whatever its age (rule 18).
    value = channel.content.zeros if held.held_value is None else held.held_value
    stamp = torch.full_like(alive, -1, dtype=torch.long) if held.held_stamp is None else held.held_stamp
    for message in held.messages.values():
        if held.newest_due_seen < message.stamp <= due.stamp:
            if message is due:
                held.prior_value, held.prior_stamp = value, stamp
            void = as_mask(message.void, value)
            arrived = ~(void | as_mask(message.lost, value))
            value = select(arrived, message.value, value)
            stamp = torch.where(arrived, message.stamp, stamp)
            if channel.wire.aligned and not void.all():
                held.held_signals = mixed(arrived, message.signals.signals, held.held_signals)
    held.held_value, held.held_stamp, held.newest_due_seen = (
        value,
        stamp,
        max(held.newest_due_seen, due.stamp),
    )
    available, signals = stamp >= 0, due.signals
    if channel.wire.aligned:  # of another step in every environment; absent where nothing is held
        values = {name: signal for name, signal in held.held_signals.items() if not name.startswith("_")}
        known = {name: held.held_signals.get(f"_{name}", available) for name in values}
        masks = {f"_{name}": mask_fill_zero(available, mask) for name, mask in known.items()}
        signals = StepSignals(due.stamp, values | masks)
    value, counted = mask_fill_zero(available, value), stamp == due.stamp
    return Arrival(due, value, Mask.of(available), Mask.of(counted), signals=signals)


def mixed(where: RowMask, one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return signals `one` where `where` holds, `other` elsewhere; without a mask `_name` a signal is present everywhere."""
    mixed = {}
    for name in dict.fromkeys([*one, *other]) if other else ():
        value = one[name] if name in one else other[name]
        absent = torch.ones_like(value) if name.startswith("_") else value
        mixed[name] = select(where, one.get(name, absent), other.get(name, absent))
    return mixed if other else dict(one)


@contextmanager
def imagining(channel: Channel, messages: list[Received]) -> Iterator[None]:
    """Read, in the context, as if these messages had been sent too; nothing of it is left afterwards."""
    inbox, examples = channel.wire.inbox, channel.synthetic_input.examples
    known = inbox.messages | {message.stamp: message for message in messages}
    channel.wire.inbox, channel.synthetic_input.examples = replace(inbox, messages=known), []
    yield
    channel.wire.inbox, channel.synthetic_input.examples = inbox, examples


def carried(channel: Channel, stamp: int, live: Tensor, signals: StepSignals, void: Mask) -> Received:
    """Return a message [B, …] as it arrives or is lost, without sending it; nothing returns for it."""
    link, value = channel.wire.link, value_of(live)
    lost = link.lost(stamp, len(value), value.device)
    return Received(stamp, link.carry(stamp, value), signals, ReadPlan(), lost, void)


def age(channel: Channel, arrived: list[Arrival], step: int) -> Tensor:
    """Return how old what is read, the newest, is, [B], in ticks of the sender; 0 where nothing is."""
    zeros, held = torch.zeros_like(channel.content.zeros[:, 0]), channel.wire.inbox.held_stamp
    if not arrived:
        return zeros
    stamp = zeros.long() + arrived[-1].due.stamp
    if held is not None:
        stamp = torch.where(as_mask(arrived[-1].synthetic, channel.content.zeros), stamp, held)
    age = (step - stamp).to(channel.content.zeros.dtype) / channel.wire.timetable.sender_clock.tick_period
    return mask_fill_zero(as_mask(arrived[-1].available, channel.content.zeros), age)


def add_gradient(read: CountedRead, gradient: Tensor | None) -> None:
    """Add what one use returns, [B, size] per sample (rule 4); None: the loss does not depend on the message."""
    received = read.received
    counted = as_mask(read.counted, received.value)
    received.counted = simplified(as_mask(received.counted, received.value) | counted)
    if gradient is not None:
        gradient = mask_fill_zero(counted, gradient)
        received.gradient = gradient if received.gradient is None else received.gradient + gradient


def add_loss(uses: list[CountedRead], loss: Tensor) -> None:
    """Add a window's loss [B] to each message it used: once, however many ticks used it (rule 9)."""
    for received in dict.fromkeys(read.received for read in uses):
        counted = [as_mask(read.counted, received.value) for read in uses if read.received is received]
        lost = mask_fill_zero(torch.stack(counted).any(0), loss)
        received.loss = lost if received.loss is None else lost + received.loss


def close(window: Window, receiving: list[Channel], step: int) -> None:
    """Close a window: its messages were learned from as sender, and what it used is complete as receiver (rule 17)."""
    for _, sent in window.sent:
        sent.window_open = False
    for wire in (channel.wire for channel in receiving):
        for received in wire.inbox.messages.values():
            received.open_windows.discard(window.number)
            sent = wire.outbox.sent.get(received.stamp)
            if received.open_windows or sent is None or sent.finished_at is not None:
                continue
            sent.finished_at, sent.counted, sent.loss = step, received.counted, received.loss
            if received.counted is not NONE and wire.returns_gradients:
                zeros = torch.zeros_like(received.value)
                sent.returned = zeros if received.gradient is None else received.gradient
                sent.back_at = step + wire.timetable.return_delay
                wire.outbox.back.setdefault(sent.back_at, []).append(sent)


def end_episodes(channel: Channel, step: int, ended: RowMask, terminated: RowMask) -> None:
    """Void what was sent where an episode ended; what the last state of a `terminated` one returns is zero (rule 20)."""
    outbox, inbox, like = channel.wire.outbox, channel.wire.inbox, channel.content.zeros
    stamp = channel.wire.timetable.sender_clock.latest(step)
    final = outbox.sent.get(-1 if stamp is None else stamp)
    if channel.carries_state and channel.wire.returns_gradients and final is not None:
        known = terminated & ~as_mask(final.void, like)
        if known.any() and not final.plan.is_bookable:  # nothing else returns: it is an example now
            example = replace(
                final, back_at=step, returned=torch.zeros_like(final.value), counted=simplified(known)
            )
            outbox.back.setdefault(step, []).append(example)
        elif known.any():
            returning = inbox.messages[final.stamp]
            returning.counted = simplified(known | as_mask(returning.counted, like))
    for sent in outbox.sent.values():
        sent.void = simplified(ended | as_mask(sent.void, like))
        if sent.plan.is_bookable and (sent.plan.first_tick or 0) > step:  # no tick has used it
            sent.creditable = simplified(~ended & as_mask(sent.creditable, like))
    for received in inbox.messages.values():
        received.void = simplified(ended | as_mask(received.void, like))
    if inbox.held_stamp is not None:
        inbox.held_stamp = torch.where(ended, -1, inbox.held_stamp)
    if inbox.prior_stamp is not None:
        inbox.prior_stamp = torch.where(ended, -1, inbox.prior_stamp)
    if outbox.newest is not None:
        outbox.newest = mask_fill_zero(~ended, outbox.newest)
