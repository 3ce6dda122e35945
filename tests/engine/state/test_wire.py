"""States as bytes."""

from __future__ import annotations

import pytest
import torch

from antiphon.engine.state.wire import from_bytes, to_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bfloat16, torch.complex128])
def test_a_tensor_keeps_the_order_of_its_memory(dtype: torch.dtype) -> None:
    """An optimiser's moments may lie in the order of their gradients; a sum over them has other bits in another one."""
    channels_last = torch.arange(2 * 3 * 4 * 5).reshape(2, 4, 5, 3).to(dtype).permute(0, 3, 1, 2)
    rows = torch.arange(6).to(dtype).expand(2, 6)  # not contiguous in any order
    back = from_bytes(to_bytes([channels_last, rows, channels_last[:0]]))
    assert torch.equal(back[0], channels_last)
    assert back[0].stride() == channels_last.stride()
    assert torch.equal(back[1], rows)
    assert back[2].shape == (0, 3, 4, 5)
