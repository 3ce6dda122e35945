"""Newest returned gradients, where a synthetic gradient is conditioned on them (`returned`, semantics 25)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.engine.heart.message import Message
from antiphon.engine.heart.rows import RowMask, mask_fill_zero, mask_not


@dataclass
class NewestReturned:
    """The newest gradient that has come back over one channel.

    Attributes:
        value: [rows, size], zeros where that episode has ended; None: nothing has come back.
    """

    value: Tensor | None = None

    def note(self, messages: Iterable[Message]) -> None:
        """Note the gradients of messages, which reach the sender now."""
        for message in messages:
            assert message.gradient is not None
            newest = message.gradient
            if isinstance(message.counted, Tensor):  # where nothing came back, the one before is the newest
                before = torch.zeros_like(newest) if self.value is None else self.value
                newest = torch.where(message.counted.unsqueeze(1), newest, before)
            self.value = newest if message.void is False else mask_fill_zero(mask_not(message.void), newest)

    def cut(self, ended: RowMask) -> None:
        """Forget it where the episode ended (semantics 20)."""
        if self.value is not None:
            self.value = mask_fill_zero(mask_not(ended), self.value)
