"""Messages on their way: links (loss, noise, quantisation), and fan-in at the receiver (concatenation or reduction
of its observations and messages).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from antiphon.base import indexed
from antiphon.base.extensions import aggregation
from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.backward_requests import constant
from antiphon.nets.native.mlp import Block
from antiphon.nets.per_member import PerMember, nonzero, scaled, to_rows
from antiphon.nets.random import normal_many, seed_for, uniform_many
from antiphon.nets.step_numbers import step_decision


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link from sender to receiver, or the links of K stacked channels, with rows (channel, environment).

    `drop` and `noise` of stacked channels are one for each, where they differ.

    Attributes:
        name: The channel's name; it seeds the lost messages and the noise.
        drop: Probability that a message is lost, sampled per environment.
        noise: Standard deviation of the noise added to every component.
        bits: Bits per component, evenly spaced over the message's own range; None: not quantised.
        members: The links of stacked channels, of whose names and seeds use is made; empty for a single link.
    """

    name: str
    drop: PerMember = 0.0
    noise: PerMember = 0.0
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

    def lost(self, stamp: int, rows: int, device: torch.device | str) -> Mask:
        """Return which rows lose the message of step `stamp`."""
        if not self.loses:
            return NONE
        seeds = self._seeds("link", device)
        chances = uniform_many(seeds, stamp, rows // len(seeds))
        return Mask.of(torch.lt(chances, to_rows(self.drop, chances)).flatten())

    @cached_property
    def loses(self) -> bool:
        """Whether messages may be lost."""
        return nonzero(self.drop)

    @cached_property
    def noisy(self) -> bool:
        """Whether there is noise."""
        return nonzero(self.noise)

    @cached_property
    def changes_values(self) -> bool:
        """Whether a message may arrive with other values than were sent."""
        return self.noisy or self.bits is not None

    @property
    def in_levels(self) -> bool:
        """Whether a received message consists of levels (`levels_of`), without noise."""
        return self.bits is not None and not self.noisy

    def arrives(self, stamp: int, rows: int) -> bool:
        """Return whether the message of `stamp` arrives in any row, computed on the host."""
        return step_decision(partial(self._arrives, rows), stamp)

    def _arrives(self, rows: int, stamp: int) -> bool:
        return not self.lost(stamp, rows, "cpu").everywhere

    def carry(self, stamp: int, message: Tensor) -> Tensor:
        """Return the message of step `stamp` as it is received: quantised at the sender, with noise added on the link.

        A pure function of seeds, names, stamp and message. The gradient passes straight through: the sent message
        gets the gradient of the received one.

        Args:
            stamp: The step at which it was sent.
            message: [rows, M], with or without its sender's graph.

        Returns:
            A tensor of the same shape; `message` itself on a link that changes nothing.
        """
        return self.received(message, self.noise_of(stamp, message))

    def noise_of(self, stamp: int, message: Tensor) -> Tensor | None:
        """Return what is added to the messages of step `stamp`, of the shape and type of `message`, [rows, M]; None: nothing."""
        if not self.noisy:
            return None
        seeds = self._seeds("noise", message.device)
        noise = scaled(normal_many(seeds, stamp, message.numel() // len(seeds)), self.noise)
        return noise.view_as(message).to(message.dtype)

    def received(self, message: Tensor, noise: Tensor | None) -> Tensor:
        """Return messages, [rows, M], as they are received, each row by itself; see `carry`.

        Args:
            message: Of one step, or of several.
            noise: What `noise_of` returns, of the same rows.
        """
        if self.bits is None and noise is None:
            return message
        sent = constant(message)
        received = sent if self.bits is None else quantised(sent, self.bits)
        if noise is not None:
            received = received + noise
        # The difference is zero, so the values are exactly those received.
        return received + (message - sent) if message.requires_grad else received


def quantised(message: Tensor, bits: int) -> Tensor:
    """Round [B, M] to 2^bits levels evenly spaced over [-s, s], where s is the largest magnitude of each sample."""
    return of_levels(*levels_of(message, bits), bits)


def levels_of(message: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return the level of each component of [B, M], from 0 to 2^bits - 1 as floats, and s of each sample, [B, 1]."""
    intervals = (1 << bits) - 1
    largest = message.abs().amax(1, keepdim=True)
    share = message / torch.where(largest > 0, largest, torch.ones_like(largest))  # of a zero message: zeros
    level = ((share + 1) * (intervals / 2)).round()
    return level, largest


def of_levels(level: Tensor, largest: Tensor, bits: int) -> Tensor:
    """Return the message with these levels, as `quantised` does."""
    intervals = (1 << bits) - 1
    return largest * ((2 * level - intervals) / intervals)


REDUCED = ("sum", "mean")
"""The kinds without separate columns for each message."""


class Joined(ABC):
    """An aggregation without parameters, which the fan-in itself computes."""

    in_fan_in: ClassVar[bool] = True
    """Whether the fan-in computes it; an aggregation with parameters is part of the agent's network."""
    side_by_side: ClassVar[bool] = False
    """Whether each message has columns of its own, so that messages may differ in size."""

    @staticmethod
    @abstractmethod
    def join(messages: Sequence[Tensor], valid: Sequence[Mask]) -> list[Tensor]:
        """Return what enters the network, [B, …] each; for the arguments see `join` below."""


@aggregation("concat")
class Concatenation(Joined):
    """The messages side by side, in the order of their channels."""

    side_by_side: ClassVar[bool] = True

    @staticmethod
    def join(messages: Sequence[Tensor], valid: Sequence[Mask]) -> list[Tensor]:
        return list(messages)


@aggregation("sum")
class Sum(Joined):
    """The sum of the messages."""

    @staticmethod
    def join(messages: Sequence[Tensor], valid: Sequence[Mask]) -> list[Tensor]:
        return [messages[0] if len(messages) == 1 else torch.stack(list(messages)).sum(0)]


@aggregation("mean")
class Mean(Joined):
    """The mean of the messages that arrived."""

    @staticmethod
    def join(messages: Sequence[Tensor], valid: Sequence[Mask]) -> list[Tensor]:
        (total,) = Sum.join(messages, valid)
        return [total / _count(valid, total)]


_JOINED: dict[str, type[Joined]] = {"concat": Concatenation, "sum": Sum, "mean": Mean}


def join(
    kind: str, observations: Sequence[Tensor], messages: Sequence[Tensor], valid: Sequence[Mask]
) -> Tensor:
    """Return one input from observations and messages, joined along dimension 1.

    Args:
        kind: `concat` in canonical order, or `sum` or `mean` over the messages; `own`: as `concat`, followed by a column for
            each message that is 1 where it is present, for a network that aggregates them.
        observations: [B, …] each, in declared order.
        messages: [B, …] each, in canonical order of their channels; zeros where none has arrived.
        valid: The environments in which a message arrived on each channel; `mean` counts only these.
    """
    parts = list(observations)
    if kind == "own":
        parts += messages
        parts += [_column(present, message) for present, message in zip(valid, messages, strict=True)]
    elif messages:
        parts += _JOINED[kind].join(messages, valid)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _column(present: Mask, like: Tensor) -> Tensor:
    """[B, 1]: 1 where a message is present."""
    return present.tensor(len(like), like.device).to(like.dtype).unsqueeze(1)


def _count(valid: Sequence[Mask], like: Tensor) -> int | Tensor:
    """Number of messages that arrived, at least 1; per environment, [B, 1, …], where that differs."""
    if all(mask is ALL or mask is NONE for mask in valid):
        return max(sum(mask is ALL for mask in valid), 1)
    masks = [mask.tensor(len(like), like.device) for mask in valid]
    count = torch.stack(masks).sum(0).clamp_min(1).to(like.dtype)
    return count.view(-1, *([1] * (like.dim() - 1)))


@dataclass(frozen=True)
class Segment:
    """Messages of some of the channel stacks into a stack of agents, in the order in which they are joined.

    Attributes:
        channels: The channel stacks, by index.
        index: Gather index that orders their messages by member, or in the order of the sum; None: already in order.
        pool: Number of messages that they hold.
        width: Messages of a member, if messages are concatenated.
        receivers: The member that receives each message, if messages are summed.
    """

    channels: tuple[int, ...]
    index: Tensor | None
    pool: int
    width: int = 1
    receivers: Tensor | None = None

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
        """Return these values in order."""
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


class FanIn:
    """Fan-in of a single agent: its network's input from observations and messages.

    Args:
        kind: See `join`.

    Attributes:
        repeats: Whether an observation shared by all members of a stack is repeated for each of them.
    """

    repeats = True

    def __init__(self, kind: str = "concat") -> None:
        self.kind = kind

    def join(
        self,
        observations: Sequence[Tensor],
        messages: Sequence[Tensor],
        available: Sequence[Mask],
        batch: int | None = None,
    ) -> Tensor:
        """Return the input, [rows, …].

        Args:
            observations: [rows, …] each, in declared order.
            messages: Per channel, or channel stack, [its rows, …].
            available: Per channel, or channel stack, the rows that hold a message.
            batch: B of stacked agents, if it differs from the run's.
        """
        return join(self.kind, observations, messages, available)

    def columns(self, values: Sequence[Tensor]) -> Tensor:
        """Stack one value per channel, [its rows] each, in canonical order: [rows, channels]."""
        return torch.stack(list(values), 1)


class StackFanIn(FanIn):
    """Fan-in of N stacked agents of one kind, which receive from stacks of channels; rows are (member, environment).

    Args:
        kind: See `join`.
        member_count: N.
        batch: B.
        segments: The messages: for `sum` and `mean` in the order of the sum, otherwise side by side.
    """

    def __init__(self, kind: str, member_count: int, batch: int, segments: Sequence[Segment]) -> None:
        super().__init__(kind)
        self.member_count, self.batch, self.segments = member_count, batch, segments

    def join(
        self,
        observations: Sequence[Tensor],
        messages: Sequence[Tensor],
        available: Sequence[Mask],
        batch: int | None = None,
    ) -> Tensor:
        batch = batch or self.batch
        parts = [o.view(self.member_count, batch, *o.shape[1:]) for o in observations]
        parts += self._messages(messages, available, batch)
        if self.kind == "own":
            columns = [
                _column(present, message) for present, message in zip(available, messages, strict=True)
            ]
            parts += self._messages(columns, available, batch)
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 2)).flatten(0, 1)

    def columns(self, values: Sequence[Tensor]) -> Tensor:
        columns = self._messages([v.unsqueeze(1) for v in values], [ALL] * len(values), self.batch)
        return torch.cat(columns, 2).flatten(0, 1)

    def _messages(self, messages: Sequence[Tensor], available: Sequence[Mask], batch: int) -> list[Tensor]:
        """Messages as inputs of stacked agents, [N, B, …] each, to be concatenated along dimension 2."""
        opened = [m.reshape(-1, batch, *m.shape[1:]) for m in messages]
        if self.kind not in REDUCED:
            joined = []
            for segment in self.segments:
                rows = segment.rows(opened)
                if segment.width > 1:
                    rows = rows.view(-1, segment.width, *rows.shape[1:]).transpose(1, 2).flatten(2, 3)
                joined.append(rows)
            return joined
        if not opened:
            return []
        total = self._sum(opened)
        if self.kind == "mean":
            present = [  # [K, B] of messages [K, B, …]: 1 where a message is present
                mask.tensor(values.shape[0] * values.shape[1], values.device)
                .view(values.shape[:2])
                .to(values.dtype)
                for values, mask in zip(opened, available, strict=True)
            ]
            count = self._sum(present).clamp_min(1)
            total = total / count.view(*count.shape, *[1] * (total.dim() - 2))
        return [total]

    def _sum(self, opened: Sequence[Tensor]) -> Tensor:
        """Sum over the messages of each member, [N, B, …]."""
        total = opened[0].new_zeros(self.member_count, *opened[0].shape[1:])
        for segment in self.segments:
            assert segment.receivers is not None
            total = indexed.add(total, segment.receivers, segment.rows(opened))
        return total


class BlockFanIn(StackFanIn):
    """Fan-in of N agents whose network reads vectors in place: nothing is copied into one input."""

    repeats = False

    def join(  # type: ignore[override]  # what the native kernel reads
        self,
        observations: Sequence[Tensor],
        messages: Sequence[Tensor],
        available: Sequence[Mask],
        batch: int | None = None,
    ) -> tuple[list[Block], int]:
        """Return the tensors that `FanIn.join` would copy into one input, and B.

        Args:
            observations: [N * B, …] each, or [B, …] where all members observe the same.
            messages: See `FanIn.join`.
            available: See `FanIn.join`.
            batch: See `FanIn.join`.
        """
        blocks = [Block(o.flatten(1)) for o in observations]
        if messages and self.kind != "concat":
            blocks.append(Block(super().join([], messages, available, batch)))
        elif messages:
            blocks += [
                Block(segment.pooled(messages), segment.index, segment.width) for segment in self.segments
            ]
        return blocks, batch or self.batch
