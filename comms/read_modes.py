"""Read modes: how a tick reads several messages of one channel that have arrived since the tick before (`read` of a channel).

The clocks alone say how many there are: `Timetable` (engine/heart/timetable.py) asks a mode only whether the newest one replaces the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from antiphon.base.mask import Mask


@dataclass(frozen=True, slots=True)
class ReadMode(ABC):
    """How a tick reads several messages of one channel; modes of one class and as many slots are equal."""

    slots: int = 1
    """The messages that a tick reads, at most."""
    newest_only: ClassVar[bool] = False
    """Whether a tick reads the newest message alone, so that nothing returns for a message replaced before a tick."""
    side_by_side: ClassVar[bool] = False
    """Whether each slot has columns of its own in the network's input."""

    @abstractmethod
    def combine(self, messages: Sequence[tuple[Tensor, Mask]]) -> tuple[Tensor, Mask]:
        """Return the messages of one channel as one, with the environments in which any arrived.

        Args:
            messages: [B, …] each, the oldest first, with the environments in which it arrived; zeros elsewhere.
        """


class ReadLast(ReadMode):
    """The newest message."""

    newest_only = True

    def combine(self, messages: Sequence[tuple[Tensor, Mask]]) -> tuple[Tensor, Mask]:
        (message,) = messages
        return message


class ReadMean(ReadMode):
    """The mean of the messages that arrived."""

    def combine(self, messages: Sequence[tuple[Tensor, Mask]]) -> tuple[Tensor, Mask]:
        if len(messages) == 1:
            return messages[0]
        from antiphon.comms.fan_in import FanIn  # imports torch, as clocks do not

        values, present = zip(*messages, strict=True)
        return FanIn("mean").join((), values, present), reduce(or_, present)


class ReadConcat(ReadMode):
    """The messages along dimension 1, the oldest first; the oldest are zeros where there are fewer than slots."""

    side_by_side = True

    def combine(self, messages: Sequence[tuple[Tensor, Mask]]) -> tuple[Tensor, Mask]:
        if len(messages) == self.slots == 1:
            return messages[0]
        from antiphon.comms.fan_in import FanIn  # imports torch, as clocks do not

        values, present = zip(*messages, strict=True)
        missing = [values[0].new_zeros(values[0].shape)] * (self.slots - len(values))
        return FanIn().join((), [*missing, *values], present), reduce(or_, present)


ReadName = Literal["last", "mean", "concat"]
"""The names that a channel has them by."""
READ_MODES: dict[ReadName, type[ReadMode]] = {"last": ReadLast, "mean": ReadMean, "concat": ReadConcat}
READ_LAST = ReadLast()


def read_mode_of(read: ReadName, sender_period: int, receiver_period: int) -> ReadMode:
    """Return the mode by its name, with as many slots as messages arrive from one of the receiver's ticks to the next."""
    mode = READ_MODES[read]
    return mode() if mode.newest_only else mode(max(1, receiver_period // sender_period))
