"""What crosses a cut channel: messages, what comes back for them, and exchanges, which have both of some steps (semantics 43)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from antiphon.engine.heart.ends import Received, Wire
from antiphon.engine.state.packing import from_bytes
from antiphon.nets.mask import Mask

_HALF = 1 << 15
"""By which levels of two bytes are shifted, for torch computes with signed integers of that size only."""


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


# --- levels as bytes, as many of them to a byte as fit -----------------------------------------------------


def packed_bits(bits: int) -> int:
    """Return the bits that a level of so many takes on a line: 1, 2, 4, 8 or 16."""
    return int(1 << (bits - 1).bit_length())


def sample_bytes(size: int, bits: int | None, width: int = 4) -> float:
    """Return the bytes of a sample's message on a line: its levels and their largest magnitude, or floats of `width` bytes."""
    return width * size if bits is None else width + size * packed_bits(bits) / 8


def pack(level: Tensor, bits: int) -> Tensor:
    """Return levels, whole floats from 0 to 2^bits - 1 of any shape, as bytes: [n] uint8."""
    width = packed_bits(bits)
    if width == 16:
        return (level.flatten() - _HALF).to(torch.int16).view(torch.uint8)
    packed = level.flatten().to(torch.uint8)
    if width < 8:
        missing = -len(packed) % (8 // width)
        columns = torch.nn.functional.pad(packed, (0, missing)).view(-1, 8 // width)
        packed = (columns << _shifts(width, packed)).sum(1, dtype=torch.uint8)
    return packed


def unpack(content: Tensor, bits: int, like: Tensor) -> Tensor:
    width = packed_bits(bits)
    if width == 16:
        return (content.view(torch.int16).to(like.dtype) + _HALF).view(like.shape)
    if width < 8:
        columns = content.unsqueeze(1) >> _shifts(width, content) & (1 << width) - 1
        content = columns.flatten()[: like.numel()]
    return content.to(like.dtype).view(like.shape)


def _shifts(width: int, like: Tensor) -> Tensor:
    return torch.arange(0, 8, width, dtype=torch.uint8, device=like.device)
