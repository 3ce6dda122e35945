"""Messages on their way: links (delay, loss, noise, quantisation), and fan-in at the receiver (concatenation or reduction
of its observations and messages).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.nets.native.mlp import Block
from antiphon.nets.random import normal_many, seed_for, uniform_many

__all__ = [
    "REDUCED",
    "FanIn",
    "InputSegment",
    "Link",
    "ReducedSegment",
    "StackedFanIn",
    "combine_reads",
    "join",
    "quantised",
]


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link from sender to receiver, or the links of K stacked channels, whose rows are (channel, environment).

    Attributes:
        name: The channel's name; it seeds the losses and the noise.
        delay: Steps between sending and arrival; the gradient takes as long on its way back.
        drop: Probability that a message is lost, sampled per environment.
        noise: Standard deviation of the noise added to every component.
        bits: Bits per component, evenly spaced over the message's own range; None: not quantised.
        members: The links of stacked channels, equal but for their names and seeds; none: it is one link.
    """

    name: str
    delay: int = 0
    drop: float = 0.0
    noise: float = 0.0
    bits: int | None = None
    seed: int = 0
    members: tuple[Link, ...] = ()

    @cached_property
    def _held(self) -> dict[tuple[str, torch.device], Tensor]:
        """The seeds of each purpose on each device, made once."""
        return {}

    def _seeds(self, purpose: str, device: torch.device | str) -> Tensor:
        """[K]: of each member."""
        key = purpose, torch.device(device)
        if key not in self._held:
            seeds = [seed_for(link.seed, purpose, link.name) for link in self.members or (self,)]
            self._held[key] = torch.tensor(seeds, device=device)
        return self._held[key]

    def lost(self, stamp: int, rows: int, device: torch.device | str) -> Tensor | None:
        """Return which rows lose the message of `stamp`, [rows] bool; None on a link that loses nothing."""
        if self.drop == 0.0:
            return None
        seeds = self._seeds("link", device)
        return (uniform_many(seeds, stamp, rows // len(seeds)) < self.drop).flatten()

    def arrives(self, stamp: int, rows: int) -> bool:
        """Return whether the message of `stamp` arrives in any row, computed on the host."""
        lost = self.lost(stamp, rows, "cpu")
        return lost is None or not bool(lost.all())

    def carry(self, stamp: int, message: Tensor) -> Tensor:
        """Return the message of `stamp` as it is received: quantised at the sender, with noise added on the link.

        A pure function of seeds, names, stamp and message. The gradient passes straight through: the
        gradient of the received message is that of the sent one.

        Args:
            stamp: The step at which it was sent.
            message: [rows, M], with or without its sender's graph.

        Returns:
            Of the same shape; `message` itself on a link that changes nothing.
        """
        if self.bits is None and self.noise == 0.0:
            return message
        sent = constant(message)
        received = sent if self.bits is None else quantised(sent, self.bits)
        if self.noise:
            seeds = self._seeds("noise", sent.device)
            noise = self.noise * normal_many(seeds, stamp, sent.numel() // len(seeds))
            received = received + noise.view_as(sent).to(sent.dtype)
        # The difference is zero, so the values are exactly those received.
        return received + (message - sent) if message.requires_grad else received


def quantised(message: Tensor, bits: int) -> Tensor:
    """Round [B, M] to 2^bits levels evenly spaced over [-s, s], s the largest magnitude of each sample."""
    intervals = (1 << bits) - 1
    largest = message.abs().amax(1, keepdim=True)
    share = message / torch.where(largest > 0, largest, torch.ones_like(largest))  # of a zero message: zeros
    level = ((share + 1) * (intervals / 2)).round()
    return largest * ((2 * level - intervals) / intervals)


REDUCED = ("sum", "mean")
"""The kinds that have no columns for each message."""


def join(
    kind: str, observations: Sequence[Tensor], messages: Sequence[Tensor], valid: Sequence[bool | Tensor]
) -> Tensor:
    """Return one input from observations and messages, joined along dimension 1.

    Args:
        kind: `concat` in canonical order, or `sum` or `mean` over the messages; `own`: as `concat`, and after the messages
            a column for each that is 1 where it is present, for a network that aggregates them.
        observations: [B, …] each, in declared order.
        messages: [B, …] each, in canonical order of their channels; zeros where none has arrived.
        valid: In which environments a message arrived on each channel, all, none or [B] bool; `mean` counts only
            those.
    """
    if kind == "concat" or not messages:
        parts = [*observations, *messages]
    elif kind == "own":
        columns = [_column(there, message) for there, message in zip(valid, messages, strict=True)]
        parts = [*observations, *messages, *columns]
    else:
        total = messages[0] if len(messages) == 1 else torch.stack(list(messages)).sum(0)
        parts = [*observations, total / _count(valid, total) if kind == "mean" else total]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _column(there: bool | Tensor, like: Tensor) -> Tensor:
    """[B, 1]: 1 where a message is present."""
    mask = there if isinstance(there, Tensor) else torch.full((len(like),), there, device=like.device)
    return mask.to(like.dtype).unsqueeze(1)


def combine_reads(
    read: str, messages: Sequence[tuple[Tensor, bool | Tensor]], slots: int
) -> tuple[Tensor, bool | Tensor]:
    """Combine several messages of one channel into one, with the environments in which any arrived.

    Args:
        read: `mean` over those that arrived, or `concat` along dimension 1; one message stays as it is.
        messages: [B, …] each, oldest first, with the environments in which it arrived; zeros elsewhere.
        slots: Messages that `concat` joins; missing ones are zeros, oldest first.
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
    """Number of messages that arrived, at least 1; per environment, [B, 1, …], where that differs."""
    masks = [mask for mask in valid if isinstance(mask, Tensor)]
    everywhere = sum(mask is True for mask in valid)
    if not masks:
        return max(everywhere, 1)
    count = (torch.stack(masks).sum(0) + everywhere).clamp_min(1).to(like.dtype)
    return count.view(-1, *([1] * (like.dim() - 1)))


class FanIn:
    """Fan-in of one agent: its network's input from observations and messages.

    Attributes:
        repeats: Whether what all members of a stack observe is repeated for each of them.
    """

    repeats = True

    def __init__(self, kind: str = "concat") -> None:
        self.kind = kind

    def join(
        self,
        observations: Sequence[Tensor],
        messages: Sequence[Tensor],
        available: Sequence[bool | Tensor],
        batch: int | None = None,
    ) -> Tensor:
        """Return the input [B, …] (see `join`); `batch` is for stacks."""
        return join(self.kind, observations, messages, available)

    def columns(self, values: Sequence[Tensor]) -> Tensor:
        """Stack one value per channel, [B] each, in canonical order: [B, channels]."""
        return torch.stack(list(values), 1)


@dataclass(frozen=True)
class InputSegment:
    """Concatenated inputs of one shape: `width` for each member of a stack.

    Attributes:
        channels: Which of the stack's incoming channel stacks hold them, by place.
        index: [N * width]: gather index into the messages, member by member; None: the identity.
        width: Inputs of a member.
        pool: Messages that these channel stacks hold.
    """

    channels: tuple[int, ...]
    index: Tensor | None
    width: int
    pool: int


@dataclass(frozen=True)
class ReducedSegment:
    """Messages that are summed in one order, whatever channel stacks hold them.

    Attributes:
        channels: Which of the stack's incoming channel stacks hold them, by place.
        order: [K]: gather index into the messages that brings them into order; None: they are in it.
        receivers: [K]: the member that each message is for.
    """

    channels: tuple[int, ...]
    order: Tensor | None
    receivers: Tensor

    def rows(self, each: Sequence[Tensor]) -> Tensor:
        """Values of the incoming channel stacks, [channels, …] each, in order, [K, …]."""
        values = [each[i] for i in self.channels]
        found = values[0] if len(values) == 1 else torch.cat(values)
        return found if self.order is None else found.index_select(0, self.order)


class _Reorder(torch.autograd.Function):
    """Permutation of rows; backward applies the inverse permutation."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.back), None, None


class StackedFanIn(FanIn):
    """Fan-in of N agents of one kind, whose messages come over stacks of channels.

    Args:
        members: N.
        batch: B; rows are (member, environment).
        segments: Of `concat`: the inputs in canonical order.
        reduced: Of `sum` and `mean`: the messages in the order in which they are added.
    """

    def __init__(
        self,
        kind: str,
        members: int,
        batch: int,
        segments: Sequence[InputSegment] = (),
        reduced: Sequence[ReducedSegment] = (),
    ) -> None:
        super().__init__(kind)
        self.members, self.batch = members, batch
        self.segments, self.reduced = segments, reduced
        self._back = [_inverse(segment) for segment in segments]

    def join(
        self,
        observations: Sequence[Tensor],
        messages: Sequence[Tensor],
        available: Sequence[bool | Tensor],
        batch: int | None = None,
    ) -> Tensor:
        """Return the input [N * B, …] of all members.

        Args:
            observations: [N * B, …] each, in declared order.
            messages: Per channel stack, [K * B, …].
            available: Per channel stack, the rows that hold a message.
            batch: B where it is another than the run's.
        """
        batch = batch or self.batch
        parts = [o.view(self.members, batch, *o.shape[1:]) for o in observations]
        parts += self._messages(messages, available, batch)
        if self.kind == "own":
            columns = [_column(there, message) for there, message in zip(available, messages, strict=True)]
            parts += self._messages(columns, available, batch)
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 2)).flatten(0, 1)

    def columns(self, values: Sequence[Tensor]) -> Tensor:
        """Stack one value per channel, [K * B] per channel stack: [N * B, channels]."""
        return torch.cat(
            self._messages([v.unsqueeze(1) for v in values], [True] * len(values), self.batch), 2
        ).flatten(0, 1)

    def _messages(
        self, messages: Sequence[Tensor], available: Sequence[bool | Tensor], batch: int
    ) -> list[Tensor]:
        """Messages as inputs, [N, B, …] each, to be concatenated along dimension 2."""
        opened = [m.reshape(-1, batch, *m.shape[1:]) for m in messages]
        if self.kind in REDUCED:
            return [self._summed(opened, available)] if opened else []
        return [
            self._side_by_side(segment, back, opened)
            for segment, back in zip(self.segments, self._back, strict=True)
        ]

    def _side_by_side(self, segment: InputSegment, back: Tensor | None, opened: Sequence[Tensor]) -> Tensor:
        pool = _pool(segment, opened)
        if segment.index is not None:
            if back is None:
                pool = pool.index_select(0, segment.index)
            else:
                pool = _Reorder.apply(pool, segment.index, back)  # type: ignore[no-untyped-call]
        if segment.width == 1:
            return pool
        each = pool.view(self.members, segment.width, *pool.shape[1:]).transpose(1, 2)
        return each.flatten(2, 3)

    def _summed(self, opened: Sequence[Tensor], available: Sequence[bool | Tensor]) -> Tensor:
        total = opened[0].new_zeros(self.members, *opened[0].shape[1:])
        for segment in self.reduced:
            total = total.index_add(0, segment.receivers, segment.rows(opened))
        if self.kind == "sum":
            return total
        count = opened[0].new_zeros(self.members, opened[0].shape[1])
        there = [_valid(values, mask) for values, mask in zip(opened, available, strict=True)]
        for segment in self.reduced:
            count = count.index_add(0, segment.receivers, segment.rows(there))
        return total / count.clamp_min(1).view(*count.shape, *[1] * (total.dim() - 2))


class BlockFanIn(StackedFanIn):
    """Fan-in of N agents whose network reads vectors from where they lie: nothing is copied into one input."""

    repeats = False

    def join(  # type: ignore[override]  # what the native kernel reads
        self,
        observations: Sequence[Tensor],
        messages: Sequence[Tensor],
        available: Sequence[bool | Tensor],
        batch: int | None = None,
    ) -> tuple[list[Block], int]:
        """Return what `StackedFanIn.join` would copy into one input, and B.

        Args:
            observations: [N * B, …] each, or [B, …] where all members observe the same.
            messages: As of `StackedFanIn.join`, like the others.
            available: Likewise.
            batch: Likewise.
        """
        found = [Block(o.flatten(1)) for o in observations]
        if messages and self.kind != "concat":
            found.append(Block(super().join([], messages, available, batch)))
        elif messages:
            found += [Block(_pool(each, messages), each.index, each.width) for each in self.segments]
        return found, batch or self.batch


def _valid(values: Tensor, available: bool | Tensor) -> Tensor:
    """[K, B]: 1 where a message is present, of messages [K, B, …]."""
    if isinstance(available, Tensor):
        return available.view(values.shape[:2]).to(values.dtype)
    return values.new_full(values.shape[:2], float(available))


def _pool(segment: InputSegment, each: Sequence[Tensor]) -> Tensor:
    """The messages that a segment reads from, of those of the channel stacks."""
    values = [each[i] for i in segment.channels]
    return values[0] if len(values) == 1 else torch.cat(values)


def _inverse(segment: InputSegment) -> Tensor | None:
    """Inverse of the segment's index where that is a permutation; None elsewhere."""
    index = segment.index
    if index is None or len(index) != segment.pool:
        return None
    ordered = torch.arange(segment.pool, device=index.device)
    return index.argsort() if torch.equal(index.sort().values, ordered) else None
