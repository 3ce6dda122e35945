"""States as bytes."""

from __future__ import annotations

import pytest
import torch

from antiphon import RunError
from antiphon.engine.state.wire import from_bytes, to_bytes
from tests.engine.numbers import one_line


def test_a_state_whose_keys_are_no_text_is_refused() -> None:
    """As text they would come back to the environment that gave them."""
    with one_line(r"a state has the key 0; the keys of a `state_dict` must be strings", RunError):
        to_bytes({"world": {0: torch.ones(2)}})
    kept = {"world": [1, {"at": torch.ones(2)}]}
    back = from_bytes(to_bytes(kept))
    assert back["world"][0] == 1
    assert torch.equal(back["world"][1]["at"], torch.ones(2))


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


def test_an_order_that_is_none_is_refused() -> None:
    damaged = to_bytes(torch.ones(2, 3).T).replace(b"[1,0]", b"[1,1]")
    with pytest.raises(ValueError, match="is not a tensor"):
        from_bytes(damaged)
