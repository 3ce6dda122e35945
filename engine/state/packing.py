"""A tree of plain data and tensors as JSON and its tensors: of a checkpoint in two files, between processes as bytes. Nothing is pickled."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.state.trees import mapped

_TENSOR = "\x00"
"""The key of what stands in a tensor's place: its number among the tensors. Where its memory has another order, or it is complex and
there as pairs of real numbers, its axes in that order (sums, and so last bits, can depend on it) and whether it is complex follow."""
_ALIGNED = 8
"""Bytes of which every tensor begins at a multiple."""
_SIZE = struct.Struct("!Q")
"""Bytes of the JSON."""


def pack(tree: Any) -> tuple[Any, list[Tensor]]:
    """Return a tree, whose keys are text, as plain data, and its tensors, each contiguous and of real numbers."""
    tensors: list[Tensor] = []

    def placed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        axes, data = _memory_order(leaf), leaf.data
        data = data.permute(axes) if axes else data
        tensors.append((torch.view_as_real(data.resolve_conj()) if data.is_complex() else data).contiguous())
        number = len(tensors) - 1
        plain = not axes and not data.is_complex()
        return {_TENSOR: number if plain else [number, axes, data.is_complex()]}

    return mapped(tree, placed), tensors


def unpack(tree: Any, tensor_at: Callable[[int], Tensor]) -> Any:
    """Return the tree that was packed, or a part of it; `tensor_at`: returns a tensor by its number."""
    if isinstance(tree, list):
        return [unpack(item, tensor_at) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() != {_TENSOR}:
        return {key: unpack(item, tensor_at) for key, item in tree.items()}
    place = tree[_TENSOR]
    number, axes, is_complex = place if isinstance(place, list) else (place, [], False)
    tensor = torch.view_as_complex(tensor_at(number)) if is_complex else tensor_at(number)
    return tensor.permute(sorted(range(tensor.ndim), key=lambda axis: axes[axis])) if axes else tensor


def _memory_order(tensor: Tensor) -> list[int]:
    """The axes in whose order a tensor's memory is contiguous; empty: in their own, or in none."""
    if tensor.is_contiguous():
        return []
    strides = tensor.stride()
    axes = sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
    return axes if tensor.permute(axes).is_contiguous() else []


# --- as bytes ----------------------------------------------------------------------------------------------


def to_bytes(tree: Any) -> bytes:
    """Return a tree as one stretch of bytes: its JSON, with the types and shapes of its tensors, and what these hold."""
    plain, tensors = pack(tree)
    kinds = [[str(tensor.dtype).removeprefix("torch."), *tensor.shape] for tensor in tensors]
    facts = json.dumps([kinds, plain], separators=(",", ":")).encode()
    facts += b" " * (-len(facts) % _ALIGNED)
    pieces: list[Any] = [_SIZE.pack(len(facts)), facts]
    for tensor in tensors:
        pieces += [tensor.reshape(-1).view(torch.uint8).cpu().numpy().data, bytes(-tensor.nbytes % _ALIGNED)]
    return b"".join(pieces)


def from_bytes(data: bytes) -> Any:
    """Return the tree of `to_bytes`, its tensors on the CPU; ValueError where it is damaged."""
    content = memoryview(bytearray(data))
    begin = _SIZE.size + _SIZE.unpack(content[: _SIZE.size])[0]
    kinds, plain = json.loads(bytes(content[_SIZE.size : begin]))
    tensors: list[Tensor] = []
    for name, *shape in kinds:
        dtype, count = getattr(torch, name), prod(shape)
        flat = torch.frombuffer(content, dtype=dtype, count=count, offset=begin) if count else torch.empty(0)
        tensors.append(flat.to(dtype).view(shape))
        begin += -(-count * dtype.itemsize // _ALIGNED) * _ALIGNED
    return unpack(plain, tensors.__getitem__)
