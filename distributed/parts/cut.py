"""What crosses a cut channel: messages, what comes back for them, and exchanges, which have both of some steps (semantics 43)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor
from torch.utils._pytree import tree_leaves

from antiphon.engine.heart.ends import Received, Wire
from antiphon.engine.state.packing import from_bytes
from antiphon.nets.mask import Mask


@dataclass(frozen=True, eq=False)
class CutMessage:
    """A message that crosses: of all channels of one stack between two parts.

    Attributes:
        content: [rows, size], as received; or its levels as bytes (`pack`), on a link of so many bits.
        example: The step whose signals it was made from; -1: of none.
        signals: Those that it was made from, where it is of an aligned agent; None: the receiver has them.
        largest: [rows, 1], of levels: the largest magnitude of each sample; None: they are none.
    """

    channel: str
    stamp: int
    content: Tensor
    example: int
    signals: Mapping[str, Tensor] | None = None
    largest: Tensor | None = None


@dataclass(frozen=True)
class Return:
    """What comes back for a message.

    Attributes:
        finished: The step at which the last window that used it closed.
        counted: [rows] bool: where a use counted; or everywhere, or nowhere.
        gradient: [rows, size], per sample; None: nothing.
        loss: [rows]: its receiver's, for critics; None: it is not needed.
    """

    channel: str
    stamp: int
    finished: int
    counted: Tensor | bool
    gradient: Tensor | None
    loss: Tensor | None


class CutWire(Wire):
    """One half of a channel, with the newest message and the returns that cross to the other one, which is in another part."""

    crossing: Received

    def __post_init__(self) -> None:
        super().__post_init__()
        self.returns: list[Return] = []

    def deliver(self, received: Received) -> None:
        self.crossing = received

    def pop_returns(self) -> list[Return]:
        returns, self.returns = self.returns, []
        return returns

    def give_back(
        self, stamp: int, finished_at: int, gradient: Tensor | None, counted: Mask, loss: Tensor | None
    ) -> None:
        self.returns.append(Return(self.name, stamp, finished_at, counted.plain, gradient, loss))


@dataclass(frozen=True)
class Exchange:
    """What a part has for a neighbour of the steps [first, end): plain data and tensors on the CPU, or nothing."""

    sender: int
    first: int
    end: int
    messages: list[CutMessage] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        leaves = tree_leaves([vars(entry) for entry in (*self.messages, *self.returns)])
        return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))

    @property
    def tree(self) -> list[Any]:
        contents = [[[*vars(entry).values()] for entry in some] for some in (self.messages, self.returns)]
        return [self.sender, self.first, self.end, *contents]

    @classmethod
    def decoded(cls, content: bytes) -> Self:
        sender, first, end, messages, returns = from_bytes(content)
        crossing = [CutMessage(*fields) for fields in messages]
        return cls(sender, first, end, crossing, [Return(*fields) for fields in returns])
