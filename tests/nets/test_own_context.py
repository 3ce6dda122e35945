"""What a run computes in."""

from __future__ import annotations

import pytest
import torch

from antiphon.nets.isolation.own_context import in_own_context


def test_a_gpu_s_convolutions_add_in_one_order_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.nets.isolation.own_context.CUDNN", True)
    seen = []
    in_own_context(lambda: seen.append(torch.backends.cudnn.deterministic))()
    assert (seen, torch.backends.cudnn.deterministic) == ([True], False)
