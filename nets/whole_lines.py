"""Tensors in whole lines of memory, so that a kernel computes every number of them in the same way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_LINE = 64
"""Bytes that a kernel works on at once; what is left over of a tensor it computes in another way, to other last bits."""


def padded_zeros(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return zeros in memory padded with zeros to a multiple of 64 bytes (`whole_lines`)."""
    count = torch.Size(shape).numel()
    line = _LINE // like.element_size()
    return like.new_zeros(-(-count // line) * line)[:count].view(*shape)


def whole_lines(tensor: Tensor) -> Tensor:
    """Return a tensor from `padded_zeros`, or its last rows, flat and with its padding, so that a kernel has no remainder.

    Other tensors are returned unchanged. So a kernel's result for a member of a stack does not depend on the stack's size.
    """
    rest = left_over(tensor)
    if not rest:
        return tensor
    padded = tensor.numel() - rest + _LINE // tensor.element_size()
    memory = (tensor.storage_offset() + padded) * tensor.element_size()
    if tensor.untyped_storage().nbytes() != memory:
        return tensor
    return tensor.data.as_strided((padded,), (1,))


def left_over(tensor: Tensor) -> int:
    """Numbers of a tensor beyond the last whole line."""
    return tensor.numel() % (_LINE // tensor.element_size())


def in_lines(rows: Tensor) -> Tensor:
    """Rows [N, …] as [N, numbers of whole lines], with zeros behind."""
    flat = rows.reshape(len(rows), -1)
    line = _LINE // rows.element_size()
    padded = flat.new_zeros(len(flat), -(-flat.shape[1] // line) * line)
    padded[:, : flat.shape[1]] = flat
    return padded


class Lines:
    """Some members of a stack, [N, …], each in whole lines of its own."""

    def __init__(self, stack: Tensor, index: Tensor) -> None:
        self.stack, self.index = stack.data, index
        self._copies = in_lines(self.stack.index_select(0, index))

    def rows(self) -> list[Tensor]:
        return list(self._copies.unbind(0))

    def write_back(self) -> None:
        size = self.stack[0].numel()
        self.stack.index_copy_(0, self.index, self._copies[:, :size].view(-1, *self.stack.shape[1:]))
