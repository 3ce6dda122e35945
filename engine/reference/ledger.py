"""Ledger of a channel: what arrives at its receiver, what comes back for it, and when (rules 4, 5, 17-20, 24).

Which receiver ticks may use a message, and which receiver windows have to close before its gradient is complete, follow
from the clocks alone. Losses on the link and episode ends only decide, per environment, what counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from antiphon.comms.backward_requests import as_leaf, value_of
from antiphon.engine.heart.message import Message, Read, StepSignals, Window
from antiphon.errors import EngineError

if TYPE_CHECKING:
    from antiphon.comms.examples import ReturnedAction
    from antiphon.engine.heart.channel import Channel

EnvMask = Tensor
"""[B] bool: the parallel environments that something holds for."""


def mask_fill_zero(mask: EnvMask, value: Tensor) -> Tensor:
    """Return `value` [B, …] where `mask` [B] holds, zeros elsewhere: put, never multiplied (rule 19: NaN x 0)."""
    return torch.where(mask.view(-1, *([1] * (value.dim() - 1))), value, torch.zeros_like(value))


def simplified(mask: EnvMask) -> bool | Tensor:
    """Return a mask as shared messages have it: one bool where all environments agree."""
    return True if mask.all() else mask if mask.any() else False


class Ledger:
    """What is computed of one channel's messages, which are those of the channel as it was built."""

    def __init__(self, channel: Channel) -> None:
        built = self.shared = channel.ledger
        self.name, self.link, self.wants_gradient = channel.name, built.link, built.wants_gradient
        self.sender, self.receiver, self.windows = built.sender, built.receiver, built.windows
        self.back, self.slack, self.is_state, self.read = built.back, built.slack, built.state, built.read
        self.zeros = channel.zeros
        self.nowhere = torch.zeros(len(channel.zeros), dtype=torch.bool, device=channel.zeros.device)

    @property
    def messages(self) -> dict[int, Message]:
        """By stamp."""
        return self.shared.messages

    def mask(self, mask: bool | Tensor) -> EnvMask:
        """Return a mask of a message, which may be one bool for all environments, as [B]."""
        return mask if isinstance(mask, Tensor) else torch.full_like(self.nowhere, mask)

    def lost(self, message: Message) -> EnvMask:
        """Return where the link lost a message."""
        return self.nowhere if message.lost is None else message.lost

    # --- the sender's half ---------------------------------------------------------------------------------

    def schedule(self, stamp: int) -> range:
        """Return the receiver ticks that use the message of `stamp` on a perfect link."""
        start, stop = stamp + self.link.delay, self.sender.after(stamp) + self.link.delay
        first, period = self.receiver.following(start), self.receiver.period
        if self.is_state and self.windows.number(first) == self.windows.number(stamp):
            return range(0)  # within a window a state is passed on with its graph
        if first >= stop:  # rule 5: a newer one is there by then, beside which `mean` and `concat` read it
            return range(0) if self.read == "last" else range(first, first + 1, period)
        return range(first, stop, period)

    def send(self, step: int, live: Tensor, signals: StepSignals, void: bool, **of: Any) -> Message:
        """Enter a message [B, …], `void` if it would poison its readers (32); `of`: its fields about its ends."""
        ticks = self.schedule(step)
        windows = {self.windows.number(tick) for tick in ticks}
        deadline = self.windows.end(max(windows)) if windows else step
        for message in self.shared.completed.get(
            step, []
        ):  # the gradients of this step have come back by now
            self._note_newest(message)
        sent, first = value_of(live), ticks[0] if ticks else None
        message = Message(step, sent, self.link.carry(step, sent), signals, first, windows, deadline, **of)
        message.lost = self.link.lost(step, len(sent), sent.device)
        message.void = message.no_injection = void
        message.returned, message.finished = self.shared.newest, None if ticks else step
        self.messages[step] = message
        self._forget(step)
        return message

    def release(self, message: Message) -> None:
        """Note that the sender has learned from a message, or never will."""
        message.held_by_sender = False

    def _forget(self, step: int) -> None:
        """Drop messages of no more use at `step`, unless newest arrivals are held and it is not among them (rule 17)."""
        due, held = self.sender.latest(step - self.link.delay), self.shared.held
        for stamp, message in list(self.messages.items()):
            if message.finished is None:
                if message.deadline + self.slack < step:
                    raise EngineError(
                        f"{self.name}: the message of step {stamp} is still open at step {step}"
                    )
            elif not message.held_by_sender and due is not None and stamp < due:
                taken_in = held is None or stamp <= held.read_up_to
                if taken_in and (message.finished + self.back < step or not message.complete):
                    del self.messages[stamp]

    def take(self, step: int) -> list[Message]:
        """Return the messages whose gradient reaches the sender at `step`, once."""
        complete = self.shared.completed.pop(step, [])
        for message in complete:
            self._note_newest(message)
        return complete

    def _note_newest(self, message: Message) -> None:
        assert message.gradient is not None
        before = torch.zeros_like(message.gradient) if self.shared.newest is None else self.shared.newest
        newest = torch.where(self.mask(message.counted).unsqueeze(1), message.gradient, before)
        self.shared.newest = mask_fill_zero(~self.mask(message.void), newest)

    # --- the receiver's half: what arrives -----------------------------------------------------------------

    def due(self, step: int) -> list[int]:
        """Return the stamps that a tick at `step` reads on a perfect link, oldest first (rule 18)."""
        sender, delay = self.sender, self.link.delay
        newest = sender.latest(step - delay)
        if newest is None:
            return []
        stamps = [newest]
        since = step - self.receiver.period - delay
        while self.read != "last" and (stamp := sender.latest(stamps[0] - 1)) is not None and stamp > since:
            stamps.insert(0, stamp)  # `mean` and `concat` read all that came since the receiver's tick before
        return stamps

    def reads(self, step: int) -> list[Read]:
        """Return what the tick at `step` reads, oldest first: one message, or as many as `read` puts side by side."""
        messages = [self.messages[stamp] for stamp in self.due(step) if stamp in self.messages]
        none = self.nowhere
        nothing = Read(
            self.name, self.zeros, none, None, none, predicted=none, step_signals=StepSignals(-1, {})
        )
        return [self._read(message) for message in messages] or [nothing]

    def _read(self, due: Message) -> Read:
        none, alive, held = self.nowhere, ~self.mask(due.void), self.shared.held
        if held is None:
            signals = due.step_signals if alive.any() else StepSignals(-1, {})
            value = mask_fill_zero(alive, due.received)
            return Read(self.name, value, alive, due, alive, predicted=none, step_signals=signals)
        # A link that loses: the newest message that arrived, whatever its age (rule 18).
        if held.value is None or held.stamp is None:
            held.value = torch.zeros_like(due.sent)
            held.stamp = torch.full((len(held.value),), -1, device=held.value.device)
        if due.stamp > held.read_up_to:
            for stamp, message in self.messages.items():
                if held.read_up_to < stamp < due.stamp:
                    self._hold(message)
            held.prior, held.prior_stamp = held.value, held.stamp
            self._hold(due)
            held.read_up_to = due.stamp
        there, counted, signals = held.stamp >= 0, held.stamp == due.stamp, due.step_signals
        if self.shared.aligned:  # of another step in every environment; absent where nothing is held
            values = {name: value for name, value in held.signals.items() if not name.startswith("_")}
            masks = {f"_{name}": held.signals.get(f"_{name}", there) & there for name in values}
            signals = StepSignals(due.stamp, values | masks)
        value = mask_fill_zero(there, held.value)
        return Read(self.name, value, there, due, counted, predicted=none, step_signals=signals)

    def _hold(self, message: Message) -> None:
        """Put a message in place of the held one, where it arrived."""
        held, void = self.shared.held, self.mask(message.void)
        assert held is not None
        assert held.value is not None
        assert held.stamp is not None
        if void.all():
            return
        here = ~(self.lost(message) | void)
        if self.shared.aligned:
            held.signals = _mixed(here, message.step_signals.signals, held.signals)
        held.value = torch.where(here.unsqueeze(1), message.received, held.value)
        held.stamp = torch.where(here, message.stamp, held.stamp)

    def stand_in(self, read: Read, prediction: Tensor, where: EnvMask) -> Read:
        """Return what is read where `prediction` [B, size] stands in for the due message where `where` holds."""
        assert read.message is not None
        assert read.value is not None
        assert read.step_signals is not None
        value, signals = torch.where(where.unsqueeze(1), prediction, read.value), read.step_signals
        if self.shared.aligned and self.shared.held is not None:
            due = read.message.step_signals.signals
            signals = StepSignals(signals.step, _mixed(where, due, signals.signals))
        available, counted = read.available | where, read.counted | where
        return Read(self.name, value, available, read.message, counted, predicted=where, step_signals=signals)

    def age(self, read: Read, step: int) -> Tensor:
        """Return how old what is read is, [B], in ticks of the sender; 0 where nothing is."""
        age, held = torch.zeros_like(self.zeros[:, 0]), self.shared.held
        if read.message is not None:
            age = age + (step - read.message.stamp)
            if held is not None and held.stamp is not None:
                age = torch.where(self.mask(read.predicted), age, step - held.stamp)
        return mask_fill_zero(self.mask(read.available), age / self.sender.clock.period)

    # --- the receiver's half: what goes back ---------------------------------------------------------------

    def leaf(self, read: Read, step: int, window: Window) -> Read:
        """Return what the tick at `step` differentiates: a window has one leaf of a message that is there everywhere."""
        assert read.message is not None
        assert read.value is not None
        counted, predicted = self.mask(read.counted), self.mask(read.predicted)
        shared = self.shared.held is None and bool(counted.all()) and not predicted.any()
        key = self.name, read.message.stamp, -1 if shared else step
        if key not in window.leaves:
            value = as_leaf(read.value) if self.wants_gradient else read.value
            available = simplified(self.mask(read.available))
            leaf = Read(self.name, value, available, read.message, simplified(counted), tick=key[2])
            window.leaves[key] = leaf
        return window.leaves[key]

    def add_gradient(self, read: Read, gradient: Tensor | None) -> None:
        """Add what one use returns, [B, size] per sample (rule 4); None: the loss does not depend on the message."""
        message, counted = read.message, self.mask(read.counted)
        assert message is not None
        message.counted = simplified(self.mask(message.counted) | counted)
        if gradient is not None:
            gradient = mask_fill_zero(counted, gradient)
            message.gradient = gradient if message.gradient is None else message.gradient + gradient

    def add_loss(self, reads: list[Read], loss: Tensor) -> None:
        """Add a window's loss [B] to each message it used: once, however many ticks used it (rule 9)."""
        for message in dict.fromkeys(read.message for read in reads if read.message is not None):
            counted = torch.stack([self.mask(read.counted) for read in reads if read.message is message]).any(
                0
            )
            message.loss = mask_fill_zero(counted, loss) + (0 if message.loss is None else message.loss)

    def add_action(self, message: Message, returned: ReturnedAction) -> None:
        """Add what the receiver did at a tick that used a message (rule 9)."""
        message.actions.append(returned)

    def replace_gradient(self, message: Message, gradient: Tensor) -> None:
        """Put another gradient in place of what came back: clipped, or a return over several windows (rule 11)."""
        message.gradient = gradient

    def close(self, window: int, step: int) -> None:
        """Close a receiver window at `step`: it has been learned from, or dropped (rule 17)."""
        for message in self.messages.values():
            if message.open != {window}:
                message.open.discard(window)
                continue
            message.open.clear()
            message.finished = step
            if message.complete and self.wants_gradient:
                if message.gradient is None:
                    message.gradient = torch.zeros_like(message.sent)
                self.shared.completed.setdefault(step + self.back, []).append(message)

    # --- both ----------------------------------------------------------------------------------------------

    def cut(self, step: int, ended: EnvMask, terminated: EnvMask) -> None:
        """Void what was sent where an episode ended at `step`; nothing follows the state of a `terminated` one."""
        if self.is_state and self.wants_gradient:
            self._last_state(step, terminated)
        for message in self.messages.values():
            message.void = simplified(self.mask(message.void) | ended)
            if message.first_use is not None and message.first_use > step:
                message.no_injection = simplified(self.mask(message.no_injection) | ended)
        if self.shared.newest is not None:
            self.shared.newest = mask_fill_zero(~ended, self.shared.newest)
        if (held := self.shared.held) is not None:
            held.stamp = None if held.stamp is None else torch.where(ended, -1, held.stamp)
            held.prior_stamp = None if held.prior_stamp is None else torch.where(ended, -1, held.prior_stamp)

    def _last_state(self, step: int, terminated: EnvMask) -> None:
        """The gradient of the state that a terminated episode ended with is known: it is zero."""
        stamp = self.sender.latest(step)
        message = None if stamp is None else self.messages.get(stamp)
        if message is None or not (last := terminated & ~self.mask(message.void)).any():
            return
        if message.unread:  # made within a window: no use returns anything for it, but it is an example now
            known = replace(message, counted=simplified(last), gradient=torch.zeros_like(message.sent))
            self.shared.completed.setdefault(step + self.back, []).append(known)
        else:
            message.counted = simplified(self.mask(message.counted) | last)


def _mixed(where: EnvMask, one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """Signals `one` where `where` holds, `other` elsewhere; without a mask `_name` a signal is present everywhere."""
    mixed = {}
    for name in dict.fromkeys([*one, *other]) if other else one:
        known = one[name] if name in one else other[name]
        absent = torch.ones_like(known) if name.startswith("_") else known
        rows = where.view(-1, *([1] * (known.dim() - 1)))
        mixed[name] = torch.where(rows, one.get(name, absent), other.get(name, absent)) if other else known
    return mixed
