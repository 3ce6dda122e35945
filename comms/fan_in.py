"""Observations and messages joined to one network input at the receiver, of a single agent and of a stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from antiphon.nets import indexed
from antiphon.nets.native.by_kernel import Block


class FanIn:
    """Fan-in of a single agent: its network's input is its observations and messages, side by side.

    Attributes:
        repeats: Whether an observation shared by all members of a stack is repeated for each of them.
    """

    repeats = True

    def join(self, observations: Sequence[Tensor], messages: Sequence[Tensor], batch: int = 1) -> Tensor:
        """Return the input, [rows, …]: observations and messages along dimension 1.

        Args:
            observations: [rows, …] each, in declared order.
            messages: Per channel, or channel stack, [its rows, …]; zeros where none has arrived.
            batch: B; of stacked agents alone it matters.
        """
        parts = [*observations, *messages]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def columns(self, values: Sequence[Tensor], batch: int) -> Tensor:
        """Stack one value per channel, [its rows] each, in canonical order: [rows, channels]."""
        return torch.stack(list(values), 1)


class StackFanIn(FanIn):
    """Fan-in of N stacked agents of one kind, which receive from stacks of channels; rows are (member, environment)."""

    def __init__(self, member_count: int, segments: Sequence[Segment]) -> None:
        self.member_count, self.segments = member_count, segments

    def join(self, observations: Sequence[Tensor], messages: Sequence[Tensor], batch: int = 1) -> Tensor:
        parts = [o.view(self.member_count, batch, *o.shape[1:]) for o in observations]
        if messages:
            parts += self.side_by_side([m.reshape(-1, batch, *m.shape[1:]) for m in messages])
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 2)).flatten(0, 1)

    def columns(self, values: Sequence[Tensor], batch: int) -> Tensor:
        columns = self.side_by_side([v.reshape(-1, batch, 1) for v in values])
        return torch.cat(columns, 2).flatten(0, 1)

    def side_by_side(self, messages: Sequence[Tensor]) -> list[Tensor]:
        """Return the messages of each agent in the order in which they are concatenated."""
        joined = []
        for segment in self.segments:
            rows = segment.rows(messages)
            if segment.width > 1:
                rows = rows.view(-1, segment.width, *rows.shape[1:]).transpose(1, 2).flatten(2, 3)
            joined.append(rows)
        return joined


class BlockFanIn(StackFanIn):
    """Fan-in of N agents whose network reads vectors in place: nothing is copied into one input."""

    repeats = False

    def join(  # type: ignore[override]  # what the native kernel reads
        self, observations: Sequence[Tensor], messages: Sequence[Tensor], batch: int = 1
    ) -> tuple[list[Block], int]:
        """Return the tensors that `FanIn.join` would copy into one input, and B.

        Args:
            observations: [N * B, …] each, or [B, …] where all members observe the same.
        """
        blocks = [Block(o.flatten(1)) for o in observations]
        if messages:
            blocks += [
                Block(segment.pooled(messages), segment.index, segment.width) for segment in self.segments
            ]
        return blocks, batch


@dataclass(frozen=True)
class Segment:
    """Messages of some of the channel stacks into a stack of agents, in the order in which they are joined.

    Attributes:
        channels: The channel stacks, by index.
        index: Gather index that orders their messages by member; None: already in order.
        pool: Number of messages that they hold.
        width: Messages of a member.
    """

    channels: tuple[int, ...]
    index: Tensor | None
    pool: int
    width: int = 1

    @cached_property
    def _inverse(self) -> Tensor | None:
        """Inverse of the index where that is a permutation; None elsewhere."""
        if self.index is None or len(self.index) != self.pool:
            return None
        ordered = torch.arange(self.pool, device=self.index.device)
        return self.index.argsort() if torch.equal(self.index.sort().values, ordered) else None

    def pooled(self, stacks: Sequence[Tensor]) -> Tensor:
        """Select the values of its channel stacks from the values of all incoming stacks, [channels, …] each."""
        values = [stacks[i] for i in self.channels]
        return values[0] if len(values) == 1 else torch.cat(values)

    def rows(self, stacks: Sequence[Tensor]) -> Tensor:
        values = self.pooled(stacks)
        if self.index is None:
            return values
        if self._inverse is None:
            return indexed.select(values, self.index)
        ordered: Tensor = _Reorder.apply(values, self.index, self._inverse)  # type: ignore[no-untyped-call]
        return ordered


class _Reorder(torch.autograd.Function):
    """Permutation of rows; backward applies the inverse permutation."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.back), None, None
