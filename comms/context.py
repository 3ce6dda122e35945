"""Context: the signals a predictor is conditioned on, encoded as features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ContextSpec", "encode"]


@dataclass(frozen=True, slots=True)
class ContextSpec:
    """One signal of a context."""

    name: str
    shape: tuple[int, ...]
    classes: int | None = None
    """Number of values of a categorical signal; None for floats."""

    @property
    def features(self) -> int:
        """Columns this signal takes in the encoding."""
        return int(torch.Size(self.shape).numel()) * (self.classes or 1)


def encode(specs: Sequence[ContextSpec], signals: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor | None:
    """Return the context as [B, features]: one-hot where categorical, flat where not; None without signals."""
    columns = []
    for spec in specs:
        value = signals[spec.name]
        if spec.classes is not None:
            columns.append(F.one_hot(value, spec.classes).to(dtype).flatten(1))
        else:
            columns.append(value.to(dtype).reshape(len(value), -1))
    if not columns:
        return None
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)
