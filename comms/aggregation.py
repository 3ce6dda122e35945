"""Fan-in: how an agent joins what it observes and what it is told."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["FAN_IN", "join", "together"]

FAN_IN = ("concat", "sum", "mean")


def join(
    kind: str, observations: Sequence[Tensor], messages: Sequence[Tensor], valid: Sequence[bool | Tensor]
) -> Tensor:
    """Return one input from observations and messages, joined along dimension 1.

    Args:
        kind: `concat` in canonical order, or `sum` or `mean` over the messages.
        observations: [B, …] each, in declared order.
        messages: [B, …] each, in canonical order of their channels; zeros where nothing has come.
        valid: In which environments anything came on each channel, all, none or [B] bool; `mean` counts only
            those.
    """
    if kind == "concat" or not messages:
        parts = [*observations, *messages]
    else:
        total = messages[0] if len(messages) == 1 else torch.stack(list(messages)).sum(0)
        parts = [*observations, total / _count(valid, total) if kind == "mean" else total]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def together(
    read: str, messages: Sequence[tuple[Tensor, bool | Tensor]], slots: int
) -> tuple[Tensor, bool | Tensor]:
    """Return several messages of one channel as one, and where any of them came.

    Args:
        read: `mean` over those that came, or `concat` along dimension 1; one message stays as it is.
        messages: [B, …] each, oldest first, with the environments in which it came; zeros elsewhere.
        slots: How many `concat` puts side by side: where there are fewer, zeros stand for the oldest.
    """
    values, came = [value for value, _ in messages], [there for _, there in messages]
    if len(messages) == 1 and (slots == 1 or read != "concat"):
        return values[0], came[0]
    everywhere: bool | Tensor = True
    if True not in [there for there in came if not isinstance(there, Tensor)]:
        masks = [there for there in came if isinstance(there, Tensor)]
        everywhere = torch.stack(masks).any(0) if masks else False
    if read == "concat":
        values = [torch.zeros_like(values[0])] * (slots - len(values)) + values
    return join(read, (), values, came), everywhere


def _count(valid: Sequence[bool | Tensor], like: Tensor) -> int | Tensor:
    """How many messages came, at least 1; per environment, [B, 1, …], where that differs."""
    masks = [mask for mask in valid if isinstance(mask, Tensor)]
    everywhere = sum(mask is True for mask in valid)
    if not masks:
        return max(everywhere, 1)
    count = (torch.stack(masks).sum(0) + everywhere).clamp_min(1).to(like.dtype)
    return count.view(-1, *([1] * (like.dim() - 1)))
