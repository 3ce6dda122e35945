"""Newest returned gradients, where a synthetic gradient is conditioned on them (`returned`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from antiphon.base.mask import Mask
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.roles import ROWS, saved_as


@dataclass
class NewestReturned:
    """The newest gradient that has come back over the channels of a stack, as it came.

    Saved are fields with a role.

    Attributes:
        value: [rows, size], zeros where no gradient has come back in this episode; None: none has come back anywhere.
        newest_step: The newest step at which any has.
    """

    value: Tensor | None = field(default=None, metadata=saved_as("newest_returned", ROWS))
    newest_step: int = -1

    def take_in(self, messages: Sequence[Message], step: int) -> None:
        """Take over the gradients that reach the sender at `step`; a second call at a step changes nothing.

        `Ledger.send` calls it, so that the message sent at `step` is conditioned on them. `Ledger.pop_messages_back`
        calls it for those that were not there as a message was sent: booked later in the step (`return_delay` 0), or
        back at a step without a message.
        """
        if not messages or step == self.newest_step:
            return
        self.newest_step = step
        for message in messages:
            assert message.booked.gradient is not None
            gradient, rows = message.booked.gradient, message.booked.rows
            # where nothing has come back for this message, the gradient before stays the newest
            newest = rows.zero_elsewhere(gradient) if self.value is None else rows.where(gradient, self.value)
            self.value = (~message.fate.void).zero_elsewhere(newest)

    def forget(self, ended_rows: Mask) -> None:
        """Forget the gradient where the episode ended (rule 20, ends of episodes)."""
        if self.value is not None:
            self.value = (~ended_rows).zero_elsewhere(self.value)
