"""What parts send each other, plain data and tensors on the CPU: messages that cross, and what comes back for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from antiphon.base.errors import RunError
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.message import Message
from antiphon.engine.state.wire import bytes_of, decode_from


@dataclass(frozen=True, eq=False)
class CutMessage:
    """A message that crosses: of all channels of one stack between two parts.

    Attributes:
        content: [rows, size], as received; or its levels as bytes (`pack`), on a link of so many bits.
        example: The step whose signals it was made from; -1: of none.
        signals: Those that it was made from, where they travel with it; None: the receiver has them.
        largest: [rows, 1], of levels: the largest magnitude of each sample; None: they are none.
    """

    channel: str
    stamp: int
    content: Tensor
    example: int
    signals: Mapping[str, Tensor] | None = None
    largest: Tensor | None = None

    @property
    def tree(self) -> list[Any]:
        return [*vars(self).values()]


@dataclass(frozen=True)
class Return:
    """What comes back for a message.

    Attributes:
        finished: The step at which the last window that used it closed.
        counted: [rows] bool: where a use counted; or everywhere, or nowhere.
        gradient: [rows, size], per sample; None: nothing.
        loss: [rows]: its receiver's, for critics; None: it is not needed.
        incarnation: The sender's, when it sent the message; for parts that do not wait.
    """

    channel: str
    stamp: int
    finished: int
    counted: Tensor | bool
    gradient: Tensor | None
    loss: Tensor | None
    incarnation: int = 0

    @classmethod
    def of_message(cls, channel: str, message: Message, incarnation: int, stamp: int) -> Self:
        """Return what a finished message gives back for the one that its sender sent at `stamp`, in an incarnation."""
        booked, finished_at = message.booked, message.finished_at
        assert finished_at is not None
        counted, gradient, loss = map(as_sent, (booked.rows.plain, booked.gradient, booked.loss))
        return cls(channel, stamp, finished_at, counted, gradient, loss, incarnation)

    @property
    def tree(self) -> list[Any]:
        return [*vars(self).values()]


@dataclass(frozen=True)
class Exchange:
    """What a part has for a neighbour of the steps [first, end); a watermark, also where it is empty.

    Attributes:
        incarnation: How many times that part has been started again.
        first: The first step that it covers.
        end: The step after the last.
    """

    sender: int
    incarnation: int
    first: int
    end: int
    messages: list[CutMessage] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of its contents as they cross."""
        leaves = tree_leaves([vars(entry) for entry in (*self.messages, *self.returns)])
        return sum(bytes_of(leaf) for leaf in leaves if isinstance(leaf, Tensor))

    @property
    def tree(self) -> list[Any]:
        """Its fields in order, as they cross and as checkpoints have them."""
        contents = [[entry.tree for entry in entries] for entries in (self.messages, self.returns)]
        return [self.sender, self.incarnation, self.first, self.end, *contents]

    @classmethod
    def of_tree(cls, tree: list[Any]) -> Self:
        """Return the exchange of its fields in order."""
        *steps, messages, returns = tree
        sender, incarnation, first, end = map(int, steps)
        crossing, back = [CutMessage(*fields) for fields in messages], [Return(*fields) for fields in returns]
        return cls(sender, incarnation, first, end, crossing, back)

    @classmethod
    def decoded(cls, facts: bytes | memoryview, content: memoryview) -> Self:
        """Return the exchange that `encode` was given the tree of."""
        try:
            return cls.of_tree(decode_from(facts, content))
        except (ValueError, TypeError) as error:
            raise RunError(f"parts: the data received are not an exchange ({error})") from None


def as_sent(value: Any) -> Any:
    """Return a copy of a tensor's numbers on the CPU; anything else as it is."""
    return (
        constant(value).cpu().clone(memory_format=torch.contiguous_format)
        if isinstance(value, Tensor)
        else value
    )
