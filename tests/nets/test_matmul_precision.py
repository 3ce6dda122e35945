"""The precision of matrix products by torch's names, and by those that torch lacks."""

from __future__ import annotations

import pytest
import torch

from antiphon.nets.isolation.own_context import matmul_precision, set_matmul_precision


@pytest.mark.parametrize("name", ["highest", "high", "medium"])
def test_the_names_of_torch_are_read_and_set(name: str) -> None:
    torch.set_float32_matmul_precision(name)
    assert matmul_precision() == name
    torch.set_float32_matmul_precision("highest")
    set_matmul_precision(name)
    assert torch.get_float32_matmul_precision() == name


@pytest.mark.parametrize("precision", ["", "low", "cuda ieee", "cuda ieee, mkldnn f8"])
def test_a_precision_that_there_is_not_is_refused(precision: str) -> None:
    with pytest.raises(ValueError, match="precision of matrix products"):
        set_matmul_precision(precision)
