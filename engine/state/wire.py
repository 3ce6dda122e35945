"""A tree of plain data and tensors as bytes: JSON of all but the tensors, then these one after the other. Nothing is pickled.

It is what crosses between processes, whatever carries it: exchanges and states of parts, values of members.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antiphon.engine.state.memory_order import memory_order, with_memory_order
from antiphon.engine.state.trees import check_keys

Take = Callable[[int], Any]
"""Returns memory of its own with so many of the bytes that come next: a bytearray, or what else can be written to."""

_TENSOR = "\x00"
"""The key of a tensor's type and shape, in its place; where its axes lie in another order in memory, the shape is in that order,
which follows as a list."""
_ALIGNED = 8
"""Bytes of which every tensor begins at a multiple."""
_OF_NUMPY = {
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float32,
    torch.float64,
}
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of integers, the narrowest first."""
_SIZE = struct.Struct("!Q")
"""Bytes of the JSON; 0: there is no tree."""


def encode(tree: Any) -> tuple[bytes, Iterator[bytes | memoryview]]:
    """Return the JSON of a tree, with the types and shapes of its tensors, and what these hold, padded, in their order there.

    Integers take as many bytes as the largest of their tensor needs. A tensor is brought to the CPU when its bytes are asked for.
    """
    tensors: list[Tensor] = []

    def kind(value: Any) -> Any:
        if not isinstance(value, Tensor):
            raise TypeError(f"{type(value).__name__} is no plain data")
        narrow, axes = _narrowest(value), memory_order(value)
        in_order = value.data.permute(axes) if axes else value.data
        tensors.append(in_order.resolve_conj().to(narrow))
        names = [str(dtype).removeprefix("torch.") for dtype in dict.fromkeys((value.dtype, narrow))]
        return {_TENSOR: [":".join(names), *in_order.shape, *([axes] if axes else [])]}

    return json.dumps(tree, separators=(",", ":"), default=kind).encode(), _contents(tensors)


def bytes_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor's contents as they cross."""
    return tensor.numel() * _narrowest(tensor).itemsize


def _narrowest(tensor: Tensor) -> torch.dtype:
    """The type of the fewest bytes that has all of a tensor's numbers: of integers another one than their own, perhaps."""
    if tensor.dtype not in _INTEGERS or not tensor.numel():
        return tensor.dtype
    least, most = (int(end) for end in tensor.aminmax())
    ranges = ((dtype, torch.iinfo(dtype)) for dtype in _INTEGERS)
    return next(dtype for dtype, ends in ranges if ends.min <= least and most <= ends.max)


def _contents(tensors: Iterable[Tensor]) -> Iterator[bytes | memoryview]:
    for tensor in tensors:
        on_host = tensor.cpu()
        # NumPy is faster, and lacks some types
        array = (
            on_host.numpy() if on_host.dtype in _OF_NUMPY else on_host.reshape(-1).view(torch.uint8).numpy()
        )
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        yield content
        yield bytes(-len(content) % _ALIGNED)


def decode(facts: bytes | memoryview, take: Take) -> Any:
    """Return the tree of its JSON and of the bytes of its tensors, which stay in the memory that is taken.

    Raises:
        ValueError: They are no tree.
    """

    def with_tensor(value: dict[str, Any]) -> Any:
        return _tensor(value[_TENSOR], take) if value.keys() == {_TENSOR} else value

    try:
        return json.loads(bytes(facts), object_hook=with_tensor)
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"a damaged tree: {error}") from None


def _tensor(kind: list[Any], take: Take) -> Tensor:
    names, *shape = kind
    axes = shape.pop() if shape and isinstance(shape[-1], list) else []
    name, _, narrow = f"{names}".partition(":")
    dtype, crossing = (getattr(torch, word, None) for word in (name, narrow or name))
    is_shape = all(type(size) is int and size >= 0 for size in shape)
    is_order = not axes or sorted(axes) == [*range(len(shape))]
    if not (isinstance(dtype, torch.dtype) and isinstance(crossing, torch.dtype) and is_shape and is_order):
        raise ValueError(f"{kind} is not a tensor")
    count = prod(shape)
    if not count:
        return with_memory_order(torch.empty(shape, dtype=dtype), axes)
    size = count * crossing.itemsize
    content = torch.frombuffer(take(size + -size % _ALIGNED), dtype=crossing, count=count)
    return with_memory_order(content.view(shape).to(dtype), axes)


def decode_from(facts: bytes | memoryview, content: memoryview) -> Any:
    """Return the tree of its JSON and of all its tensors' bytes, which are not copied.

    Raises:
        ValueError: They are no tree.
    """
    take = _MemoryPieces(content)
    tree = decode(facts, take)
    if take.at != len(content):
        raise ValueError(f"{len(content)} bytes, of which tensors fill {take.at}")
    return tree


class _MemoryPieces:
    """Takes one piece of memory after the other from a larger one."""

    def __init__(self, memory: memoryview) -> None:
        self._memory, self.at = memory, 0

    def __call__(self, size: int) -> memoryview:
        begin, self.at = self.at, self.at + size
        if self.at > len(self._memory):
            raise ValueError(f"{len(self._memory)} bytes, and tensors of more")
        return self._memory[begin : self.at]


def stream(tree: Any) -> Iterator[bytes | memoryview]:
    """Yield a tree with its size before it, so that it can be read from a stream (`read`); None: that there is none.

    Raises:
        RunError: A key is no text (`check_keys`).
    """
    if tree is None:
        yield _SIZE.pack(0)
        return
    check_keys(tree)
    facts, contents = encode(tree)
    yield _SIZE.pack(len(facts))
    yield facts
    yield from contents


def read(take: Take) -> Any:
    """Return the next tree of a stream; None: there is none.

    Raises:
        ValueError: What comes is no tree.
    """
    (size,) = _SIZE.unpack(take(_SIZE.size))
    return decode(take(size), take) if size else None


def to_bytes(tree: Any) -> bytes:
    """Return a tree as `stream` yields it."""
    return b"".join(stream(tree))


def from_bytes(data: bytes) -> Any:
    """Return the tree of `to_bytes`, its tensors on the CPU.

    Raises:
        ValueError: It is damaged.
    """
    return read(_MemoryPieces(memoryview(bytearray(data))))
