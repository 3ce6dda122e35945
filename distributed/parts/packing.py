"""Levels of a message as bytes on a line: as many of them to a byte as fit."""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = 1 << 15
"""By which levels of two bytes are shifted, for torch computes with signed integers of that size only."""


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
