"""Newest returned gradients, where a synthetic gradient is conditioned on them (`returned`, semantics 25)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from antiphon.base.mask import Mask
from antiphon.engine.heart.message import Message


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
            assert message.returned.gradient is not None
            newest, counted = message.returned.gradient, message.returned.counted
            # Where nothing came back, the one before is the newest.
            newest = counted.fill(newest) if self.value is None else counted.where(newest, self.value)
            self.value = (~message.fate.void).fill(newest)

    def end_episodes(self, ended: Mask) -> None:
        """Forget it where the episode ended (semantics 20)."""
        if self.value is not None:
            self.value = (~ended).fill(self.value)
