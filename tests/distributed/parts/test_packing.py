"""Levels of messages on a line: packed and unpacked they are the same, in as few bytes as may be."""

from __future__ import annotations

import pytest
import torch

from antiphon.distributed.parts.packing import pack, packed_bits, unpack


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (4, 16)])
def test_levels_are_unpacked_as_they_were(bits: int, shape: tuple[int, int]) -> None:
    chance = torch.Generator().manual_seed(bits)
    level = torch.randint(2**bits, shape, generator=chance).double()
    level.view(-1)[-1] = 2**bits - 1
    content = pack(level, bits)
    assert content.dtype == torch.uint8
    assert len(content) == -(-level.numel() * packed_bits(bits) // 8)
    assert torch.equal(unpack(content, bits, torch.zeros(shape).double()), level)
