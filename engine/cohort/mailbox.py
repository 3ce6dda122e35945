"""Mailboxes: how the messages of several bundles become the inputs of a cohort's members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.core.signals import EnvMask

__all__ = ["Mailbox", "Segment"]


@dataclass(frozen=True)
class Segment:
    """Inputs side by side that are of one shape: `width` for each member.

    Attributes:
        bundles: Where they are, by place among the bundles that lead to the cohort.
        index: [N * width]: which of all those messages each is, member by member; None: as they come.
        width: Inputs of a member.
        pool: How many messages the bundles have.
    """

    bundles: tuple[int, ...]
    index: Tensor | None
    width: int
    pool: int


class _Reorder(torch.autograd.Function):
    """Rows in another order, each exactly once: the gradient only goes back to where they came from."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.back), None, None


class Mailbox:
    """What leads to a cohort.

    Args:
        fan_in: `concat`, `sum` or `mean`.
        members: N.
        segments: `concat`: the inputs in their order.
        give: `sum` and `mean`: per bundle, the receiver [K] of each channel.
    """

    def __init__(
        self,
        fan_in: str = "concat",
        members: int = 0,
        segments: Sequence[Segment] = (),
        give: Sequence[Tensor] = (),
    ) -> None:
        self.fan_in, self.members = fan_in, members
        self.segments, self.give = segments, give
        self._back = [_inverse(segment) for segment in segments]

    def join(self, messages: Sequence[Tensor], available: Sequence[EnvMask], batch: int) -> list[Tensor]:
        """Return the messages as inputs, [N, B, …] each, to be put side by side along dimension 2.

        Args:
            messages: Per bundle, [K * B, …].
            came: Per bundle, where there is a message.
            batch: B.
        """
        opened = [m.reshape(-1, batch, *m.shape[1:]) for m in messages]
        if self.fan_in != "concat":
            return [self._summed(opened, available)] if opened else []
        return [
            self._side_by_side(segment, back, opened)
            for segment, back in zip(self.segments, self._back, strict=True)
        ]

    def _side_by_side(self, segment: Segment, back: Tensor | None, opened: Sequence[Tensor]) -> Tensor:
        values = [opened[i] for i in segment.bundles]
        pool = values[0] if len(values) == 1 else torch.cat(values)
        if segment.index is not None:
            if back is None:
                pool = pool.index_select(0, segment.index)
            else:
                pool = _Reorder.apply(pool, segment.index, back)  # type: ignore[no-untyped-call]
        if segment.width == 1:
            return pool
        apart = pool.view(self.members, segment.width, *pool.shape[1:]).transpose(1, 2)
        return apart.flatten(2, 3)

    def _summed(self, opened: Sequence[Tensor], available: Sequence[EnvMask]) -> Tensor:
        total = opened[0].new_zeros(self.members, *opened[0].shape[1:])
        for values, give in zip(opened, self.give, strict=True):
            total = total.index_add(0, give, values)
        if self.fan_in == "sum":
            return total
        count = opened[0].new_zeros(self.members, opened[0].shape[1])
        for values, give, there in zip(opened, self.give, available, strict=True):
            if there is False:
                continue
            ones = (
                torch.ones_like(values[:, :, 0]) if values.dim() == 3 else values.new_ones(values.shape[:2])
            )
            lanes = ones if there is True else there.view(values.shape[:2]).to(values.dtype)
            count = count.index_add(0, give, lanes)
        return total / count.clamp_min(1).view(*count.shape, *[1] * (total.dim() - 2))


def _inverse(segment: Segment) -> Tensor | None:
    """The way back of an order in which everything is exactly once; None where something is not."""
    index = segment.index
    if index is None or len(index) != segment.pool:
        return None
    ordered = torch.arange(segment.pool, device=index.device)
    return index.argsort() if torch.equal(index.sort().values, ordered) else None
