"""Fan-in: how an agent joins what it observes and what it is told."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["FAN_IN", "join"]

FAN_IN = ("concat", "sum", "mean")


def join(
    kind: str, observations: Sequence[Tensor], messages: Sequence[Tensor], valid: Sequence[bool]
) -> Tensor:
    """Return one input from observations and messages, joined along dimension 1.

    Args:
        kind: `concat` in canonical order, or `sum` or `mean` over the messages.
        observations: [B, …] each, in declared order.
        messages: [B, …] each, in canonical order of their channels; zeros where nothing has come.
        valid: Whether anything came on each channel; `mean` counts only those.
    """
    if kind == "concat" or not messages:
        parts = [*observations, *messages]
    else:
        total = messages[0] if len(messages) == 1 else torch.stack(list(messages)).sum(0)
        count = sum(valid)
        parts = [*observations, total / count if kind == "mean" and count > 1 else total]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
