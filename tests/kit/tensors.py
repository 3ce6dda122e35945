"""Tensors for tests: drawn by a seed, stacked, compared; and how many operations there were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

DOUBLE = torch.float64


def drawn(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers that depend on the seed alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def stack(tensors: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of several as one, [N, …] each."""
    return {k: torch.stack([t[k] for t in tensors]) for k in tensors[0]}


def member(stacked: Mapping[str, Tensor], i: int) -> dict[str, Tensor]:
    """One of several again."""
    return {k: v[i] for k, v in stacked.items()}


def same(found: Any, expected: Any) -> None:
    """Two tensors, or sequences or mappings of them, are equal to the bit."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0, check_stride=False)
