"""Read modes: how a tick reads several messages of one channel that have arrived since the tick before (`read` of a channel).

The clocks alone say how many there are: `Timetable` (engine/heart/timetable.py) asks a mode only whether the newest one replaces the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from antiphon.base.mask import Mask

ReadName = Literal["last", "mean", "concat"]
"""The newest message, the mean of the messages that arrived, or all along dimension 1, the oldest first."""


@dataclass(frozen=True, slots=True)
class ReadMode:
    """How a tick reads several messages of one channel."""

    name: ReadName = "last"
    slots: int = 1
    """The messages that a tick reads, at most."""

    @property
    def newest_only(self) -> bool:
        """Whether a tick reads the newest message alone, so that nothing returns for a message replaced before a tick."""
        return self.name == "last"

    @property
    def side_by_side(self) -> bool:
        """Whether each slot has columns of its own in the network's input; the oldest are zeros where there are fewer messages."""
        return self.name == "concat"

    def combine(self, messages: Sequence[tuple[Tensor, Mask]]) -> tuple[Tensor, Mask]:
        """Return the messages of one channel as one, with the environments in which any arrived.

        Args:
            messages: [B, …] each, the oldest first, with the environments in which it arrived; zeros elsewhere.
        """
        if self.name == "last" or (len(messages) == 1 and (self.slots == 1 or not self.side_by_side)):
            (message,) = messages
            return message
        from antiphon.comms.fan_in import FanIn  # imports torch, as clocks do not

        values, present = zip(*messages, strict=True)
        missing = self.slots - len(values) if self.side_by_side else 0
        values = (*[values[0].new_zeros(values[0].shape)] * missing, *values)
        return FanIn(self.name).join((), values, present), reduce(or_, present)


READ_LAST = ReadMode()


def read_mode_of(name: ReadName, sender_period: int, receiver_period: int) -> ReadMode:
    """Return the mode with as many slots as messages arrive from one of the receiver's ticks to the next."""
    return ReadMode(name, 1 if name == "last" else max(1, receiver_period // sender_period))
