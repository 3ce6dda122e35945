"""When two tensors are the same to the bit."""

from __future__ import annotations

import pytest
import torch

from antiphon.engine.state.compatibility import same_bits


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_tensors_are_compared_by_their_bits(dtype: torch.dtype) -> None:
    """Also of a type that numpy does not have, as a module of one's own may keep."""
    one = torch.tensor([[1.0, 0.0], [torch.nan, 2.0]], dtype=dtype)
    assert same_bits(one, one.t().contiguous().t())
    assert same_bits(one[0, 0], torch.ones((), dtype=dtype))
    for other in (one.t(), one * torch.tensor([1, -1]), one.flatten(), one.float()):
        assert not same_bits(one, other)
