"""The checksum of TensorBoard's records, CRC-32C, ten times as fast as TensorBoard's own on what is long."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import (  # type: ignore[import-untyped]
    CRC_TABLE,
    masked_crc32c,
)

__all__ = ["masked_checksum"]

_SHORT = 1024
"""Bytes below which a loop over them is faster than arrays."""
_ONES = 0xFFFFFFFF

Words = NDArray[np.uint32]


def masked_checksum(data: bytes) -> int:
    """Return what stands behind `data` in a record: its checksum, turned by 15 bits, plus a constant.

    The remainder of two pieces side by side is that of the first, moved by as many zeros as the second is long, plus
    that of the second. So neighbours are joined pair by pair, all pairs of one length at once.
    """
    if len(data) < _SHORT:
        return int(masked_crc32c(data))
    padded = np.zeros(-(-len(data) // 4) * 4, dtype=np.uint8)  # zeros in front change no remainder
    padded[-len(data) :] = np.frombuffer(data, dtype=np.uint8)
    padded[-len(data) :][:4] ^= 255  # the same as a remainder of ones to begin with
    remainders, power = _moved(_by(2), padded.view("<u4")), 2
    while len(remainders) > 1:
        if len(remainders) % 2:
            remainders = np.concatenate([np.zeros(1, dtype=np.uint32), remainders])
        remainders, power = _moved(_by(power), remainders[0::2]) ^ remainders[1::2], power + 1
    checksum = int(remainders[0]) ^ _ONES
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & _ONES


def _moved(tables: Words, remainders: Words) -> Words:
    """Return what each remainder becomes; a remainder is looked up byte by byte."""
    low, second, third, high = (remainders >> shift & 255 for shift in (0, 8, 16, 24))
    moved: Words = tables[0][low] ^ tables[1][second] ^ tables[2][third] ^ tables[3][high]
    return moved


@cache
def _by(power: int) -> Words:
    """Return what 2 ** `power` zero bytes make of a remainder, [byte of the remainder, its value]."""
    if power:
        return _moved(_by(power - 1), _by(power - 1))
    value = np.arange(256, dtype=np.uint32)
    return np.stack([np.array(CRC_TABLE, dtype=np.uint32), value, value << 8, value << 16])
