"""Whether numbers of a loop are finite: those that are not are left out, and never reach a parameter (semantics 32)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def all_finite(tensors: Iterable[Tensor | None]) -> bool:
    """Return whether all numbers of some tensors are finite, at one look for each device and type: a GPU is waited for."""
    by_kind: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        if tensor is not None and (tensor.is_floating_point() or tensor.is_complex()):
            values = (
                tensor.detach() if tensor.layout == torch.strided else tensor.detach().coalesce().values()
            )
            by_kind.setdefault((values.device, values.dtype), []).append(values)
    for alike in by_kind.values():
        if not math.isfinite(torch.stack(torch._foreach_norm(alike)).sum().item()) and not all(
            bool(values.isfinite().all())
            for values in alike  # a norm of finite numbers may not be finite
        ):
            return False
    return True
