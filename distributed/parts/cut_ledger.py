"""The ledger of a channel that is cut, written for its other half: what that sends, and what it gives back (semantics 43)."""

from __future__ import annotations

from torch import Tensor

from antiphon.base.mask import ALL, NONE, Mask
from antiphon.engine.heart.ledger import Ledger
from antiphon.engine.heart.message import Booked, Message
from antiphon.engine.heart.signals import StepSignals


def enter(
    ledger: Ledger,
    step: int,
    placeholder: Tensor,
    step_signals: StepSignals,
    *,
    void: Mask = NONE,
) -> Message:
    """Enter the message that the other half sends at `step`, whose content arrives later, and return it.

    Args:
        placeholder: [rows, size], zeros.
        void: Where its sender or its receiver does not live.
    """
    message = ledger.send(step, placeholder, step_signals, void)
    message.close_sender_window()  # the other half keeps it for its sender
    return message


def fill(message: Message, received: Tensor | None, step_signals: StepSignals | None = None) -> None:
    """Put what the other half has sent, [rows, size] as received, in place of the placeholder; None: it is lost."""
    if received is None:
        message.fate.set_lost(ALL)
    else:
        message.replace_values(received, received, step_signals)


def give_back(
    ledger: Ledger,
    stamp: int,
    finished: int,
    counted: Mask,
    gradient: Tensor | None,
    loss: Tensor | None,
) -> None:
    """Enter what the other half returns for a message.

    Args:
        counted: Environments in which a use counted.
    """
    message = ledger.messages[stamp]
    message.replace_booked(Booked(gradient, loss, counted))
    ledger.finish(message, finished)
