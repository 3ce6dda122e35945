"""Ledger of a channel: what arrives at its receiver, what comes back for it, and when (rules 4, 5, 17-20, 24).

Which receiver ticks may use a message, and which receiver windows have to close before its gradient is complete, follow
from the clocks alone. Losses on the link and episode ends only decide, per environment, what counts. Here a mask is [B]
bool; what is written in shared messages and reads is `ALL` or `NONE` where all environments agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from antiphon.base.mask import ALL, NONE
from antiphon.comms import Mask
from antiphon.comms.backward_requests import value_of
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import Arrival, Booked, Fate, Message
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.timetable import ReadPlan
from antiphon.engine.heart.window import CountedRead, Window
from antiphon.errors import EngineError

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


def send(channel: Channel, step: int, live: Tensor, signals: StepSignals, void: Mask) -> Message:
    """Enter a message [B, …]; ticks between its arrival and the next one's use it (rule 5)."""
    ledger, link, sent = channel.ledger, channel.ledger.link, value_of(live)
    timetable, grid = ledger.timetable, ledger.timetable.receiver_grid
    start, stop = step + timetable.delay, timetable.sender_clock.after(step) + timetable.delay
    ticks = range(timetable.receiver_clock.at_or_after(start), stop, timetable.receiver_clock.tick_period)
    if not ticks and not timetable.read_mode.newest_only:  # a newer one is there by then: both are read
        ticks = range(ticks.start, ticks.start + 1)
    within = channel.carries_state and grid.number_at(ticks.start) == grid.number_at(step)
    first, returns = ticks[0] if ticks else None, bool(ticks) and not within  # there it has its graph
    windows = {grid.number_at(tick) for tick in ticks if returns}
    deadline = max(map(grid.end_of, windows), default=None)
    plan, finished = ReadPlan(first, windows, deadline), None if returns else step
    fate = Fate(link.lost(step, len(sent), sent.device), void, void, void)
    message = Message(step, sent, link.carry(step, sent), signals, plan, {*windows}, finished, fate=fate)
    message.sender_window_open = returns or not channel.carries_state
    _note_newest(channel, step)  # the gradients of this step have come back by now
    ledger.messages[step] = message
    return message


def delete_spent(channel: Channel, step: int) -> None:
    """Drop messages of no more use after a step's ticks, unless newest arrivals are held and it is not among them (rule 17)."""
    ledger, timetable = channel.ledger, channel.ledger.timetable
    due, held = timetable.sender_clock.latest(step - timetable.delay), ledger.held_messages
    for stamp, old in list(ledger.messages.items()):
        if old.finished_at is None and (old.read_plan.finish_by or 0) + ledger.slack < step:
            raise EngineError(f"{channel.name}: step {stamp + 1} is still open at step {step + 1}")
        learned = old.finished_at is not None and (old.back_at is None or old.back_at < step)
        replaced = due is not None and stamp < due and (held is None or stamp <= held.newest_stamp)
        if learned and replaced and not old.sender_window_open:
            del ledger.messages[stamp]


def take(channel: Channel, step: int) -> list[Message]:
    """Return the messages whose gradient reaches the sender at `step`, once."""
    _note_newest(channel, step)
    return channel.ledger.back_by_step.pop(step, [])


def _note_newest(channel: Channel, step: int) -> None:
    known = channel.ledger.newest_returned
    for message in channel.ledger.back_by_step.get(step, []):
        if known is None or message.booked.gradient is None:
            continue
        before = channel.content.zeros if known.value is None else known.value
        newest = select(as_mask(message.booked.rows, before), message.booked.gradient, before)
        known.value = mask_fill_zero(~as_mask(message.fate.void, before), newest)


def arrivals(channel: Channel, step: int) -> list[Arrival]:
    """Return what the tick at `step` reads, oldest first: one message, or as many as `read` puts side by side; none: empty."""
    ledger, timetable, delay = channel.ledger, channel.ledger.timetable, channel.ledger.timetable.delay
    stamp, stamps = timetable.sender_clock.latest(step - delay), list[int]()
    since = step - timetable.receiver_clock.tick_period - delay
    # `mean` and `concat` read all that came since the receiver's tick before, and the newest in any case (rule 18).
    while stamp is not None and (not stamps or (not timetable.read_mode.newest_only and stamp > since)):
        stamps.insert(0, stamp)
        stamp = timetable.sender_clock.latest(stamp - 1)
    return [_arrival(channel, ledger.messages[stamp]) for stamp in stamps if stamp in ledger.messages]


def _arrival(channel: Channel, due: Message) -> Arrival:
    alive, held = ~as_mask(due.fate.void, due.sent_value), channel.ledger.held_messages
    if held is None:
        signals = due.step_signals if alive.any() else StepSignals(-1, {})
        value = mask_fill_zero(alive, due.carried_value)
        valid = Mask.of(alive)
        return Arrival(due, value, valid, valid, step_signals=signals)
    # A link that loses: the newest message that arrived, whatever its age (rule 18).
    value = channel.content.zeros if held.value is None else held.value
    stamp = torch.full_like(alive, -1, dtype=torch.long) if held.stamp is None else held.stamp
    for message in channel.ledger.messages.values():
        if held.newest_stamp < message.stamp <= due.stamp:
            if message is due:
                held.prior_value, held.prior_stamp = value, stamp
            void = as_mask(message.fate.void, value)
            arrived = ~(void | as_mask(message.fate.lost, value))
            value = select(arrived, message.carried_value, value)
            stamp = torch.where(arrived, message.stamp, stamp)
            if channel.ledger.aligned and not void.all():
                held.signals = mixed(arrived, message.step_signals.signals, held.signals)
    held.value, held.stamp, held.newest_stamp = value, stamp, max(held.newest_stamp, due.stamp)
    available, signals = stamp >= 0, due.step_signals
    if channel.ledger.aligned:  # of another step in every environment; absent where nothing is held
        values = {name: signal for name, signal in held.signals.items() if not name.startswith("_")}
        known = {name: held.signals.get(f"_{name}", available) for name in values}
        masks = {f"_{name}": mask_fill_zero(available, mask) for name, mask in known.items()}
        signals = StepSignals(due.stamp, values | masks)
    value, counted = mask_fill_zero(available, value), stamp == due.stamp
    return Arrival(due, value, Mask.of(available), Mask.of(counted), step_signals=signals)


def mixed(where: RowMask, one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return signals `one` where `where` holds, `other` elsewhere; without a mask `_name` a signal is present everywhere."""
    mixed = {}
    for name in dict.fromkeys([*one, *other]) if other else ():
        value = one[name] if name in one else other[name]
        absent = torch.ones_like(value) if name.startswith("_") else value
        mixed[name] = select(where, one.get(name, absent), other.get(name, absent))
    return mixed if other else dict(one)


@contextmanager
def imagining(channel: Channel, messages: list[Message]) -> Iterator[None]:
    """Read, in the context, as if these messages had been sent too; nothing of it is left afterwards."""
    ledger = channel.ledger
    known, held, examples = ledger.messages, ledger.held_messages, channel.synthetic_input.examples
    ledger.messages = known | {message.stamp: message for message in messages}
    ledger.held_messages, channel.synthetic_input.examples = copy(held), []
    yield
    ledger.messages, ledger.held_messages, channel.synthetic_input.examples = known, held, examples


def carried(channel: Channel, stamp: int, live: Tensor, signals: StepSignals, void: Mask) -> Message:
    """Return a message [B, …] as it arrives or is lost, without entering it; nothing returns for it."""
    link, sent = channel.ledger.link, value_of(live)
    fate, never = Fate(link.lost(stamp, len(sent), sent.device), void), ReadPlan()
    return Message(stamp, sent, link.carry(stamp, sent), signals, never, set(), stamp, fate=fate)


def age(channel: Channel, arrived: list[Arrival], step: int) -> Tensor:
    """Return how old what is read, the newest, is, [B], in ticks of the sender; 0 where nothing is."""
    zeros, held = torch.zeros_like(channel.content.zeros[:, 0]), channel.ledger.held_messages
    if not arrived:
        return zeros
    stamp = zeros.long() + arrived[-1].message.stamp
    if held is not None and held.stamp is not None:
        stamp = torch.where(as_mask(arrived[-1].synthetic, channel.content.zeros), stamp, held.stamp)
    age = (step - stamp).to(channel.content.zeros.dtype) / channel.ledger.timetable.sender_clock.tick_period
    return mask_fill_zero(as_mask(arrived[-1].available, channel.content.zeros), age)


def add_gradient(read: CountedRead, gradient: Tensor | None) -> None:
    """Add what one use returns, [B, size] per sample (rule 4); None: the loss does not depend on the message."""
    message = read.message
    counted, booked = as_mask(read.counted, message.sent_value), message.booked
    booked.rows = simplified(as_mask(booked.rows, message.sent_value) | counted)
    if gradient is not None:
        gradient = mask_fill_zero(counted, gradient)
        booked.gradient = gradient if booked.gradient is None else booked.gradient + gradient


def add_loss(uses: list[CountedRead], loss: Tensor) -> None:
    """Add a window's loss [B] to each message it used: once, however many ticks used it (rule 9)."""
    for message in dict.fromkeys(read.message for read in uses):
        counted = [as_mask(read.counted, message.sent_value) for read in uses if read.message is message]
        lost = mask_fill_zero(torch.stack(counted).any(0), loss)
        before = message.booked.loss
        message.booked.loss = lost if before is None else lost + before


def close(window: Window, receiving: list[Channel], step: int) -> None:
    """Close a window: its messages were learned from as sender, and what it used is complete as receiver (rule 17)."""
    for _, message in window.sent_messages:
        message.sender_window_open = False
    for ledger in (channel.ledger for channel in receiving):
        for message in ledger.messages.values():
            message.open_reader_windows.discard(window.number)
            if message.open_reader_windows or message.finished_at is not None:
                continue
            message.finished_at = step
            if message.booked.rows is not NONE and ledger.returns_gradients:
                if message.booked.gradient is None:
                    message.booked.gradient = torch.zeros_like(message.sent_value)
                message.back_at = step + ledger.timetable.return_delay
                ledger.back_by_step.setdefault(message.back_at, []).append(message)


def end_episodes(channel: Channel, step: int, ended: RowMask, terminated: RowMask) -> None:
    """Void what was sent where an episode ended; what the last state of a `terminated` one returns is zero (rule 20)."""
    ledger, like, clock = channel.ledger, channel.content.zeros, channel.ledger.timetable.sender_clock
    final = ledger.messages.get(-1 if (stamp := clock.latest(step)) is None else stamp)
    if channel.carries_state and ledger.returns_gradients and final is not None:
        known = terminated & ~as_mask(final.fate.void, like)
        if known.any() and not final.read_plan.is_bookable:  # nothing else returns: it is an example now
            booked = Booked(torch.zeros_like(final.sent_value), None, simplified(known))
            example = replace(final, back_at=step, fate=replace(final.fate), booked=booked)
            ledger.back_by_step.setdefault(step, []).append(example)
        elif known.any():
            final.booked.rows = simplified(as_mask(final.booked.rows, like) | known)
    for message in ledger.messages.values():
        message.fate.void = simplified(as_mask(message.fate.void, like) | ended)
        if message.read_plan.is_bookable and (message.read_plan.first_tick or 0) > step:
            message.fate.void_unread = simplified(as_mask(message.fate.void_unread, like) | ended)
    if (back := ledger.newest_returned) is not None and back.value is not None:
        back.value = mask_fill_zero(~ended, back.value)
    if (held := ledger.held_messages) is not None:
        held.stamp = None if held.stamp is None else torch.where(ended, -1, held.stamp)
        held.prior_stamp = None if held.prior_stamp is None else torch.where(ended, -1, held.prior_stamp)
