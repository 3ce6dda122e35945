"""Links: delay, loss, noise and quantisation of messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.comms.credit import constant
from antiphon.nets.random import normal, normal_many, seed_for, uniform, uniform_many

__all__ = ["Link", "StackedLinks", "quantised"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link from sender to receiver.

    Attributes:
        name: The channel's name; it seeds the losses and the noise.
        delay: Steps between sending and arrival; the gradient takes as long on its way back.
        drop: Probability that a message is lost, sampled per environment.
        noise: Standard deviation of the noise added to every component.
        bits: Bits per component, evenly spaced over the message's own range; None: not quantised.
        seed: Of the run.
    """

    name: str
    delay: int = 0
    drop: float = 0.0
    noise: float = 0.0
    bits: int | None = None
    seed: int = 0

    def lost(self, stamp: int, batch: int, device: torch.device | str) -> Tensor | None:
        """Return which environments lose the message of `stamp`, [B] bool; None on a link that loses nothing."""
        if self.drop == 0.0:
            return None
        return uniform(seed_for(self.seed, "link", self.name), stamp, batch, device) < self.drop

    def carry(self, stamp: int, message: Tensor) -> Tensor:
        """Return the message of `stamp` as it is received: quantised at the sender, with noise added on the link.

        A pure function of seed, name, stamp and message. The gradient passes straight through: the
        gradient of the received message is that of the sent one.

        Args:
            stamp: The step at which it was sent.
            message: [B, M], with or without its sender's graph.

        Returns:
            [B, M]; `message` itself on a link that changes nothing.
        """
        if self.bits is None and self.noise == 0.0:
            return message
        sent = constant(message)
        received = sent if self.bits is None else quantised(sent, self.bits)
        if self.noise:
            sampled = normal(seed_for(self.seed, "noise", self.name), stamp, sent.numel(), sent.device)
            received = received + (self.noise * sampled).view_as(sent).to(sent.dtype)
        # The difference is zero, so the values are exactly those received.
        return received + (message - sent) if message.requires_grad else received


class StackedLinks:
    """The links of K channels of one kind, each with losses and noise of its own.

    Args:
        links: Equal but for their names and seeds.
        batch: B, environments of a channel; rows are (channel, environment).
    """

    def __init__(self, links: Sequence[Link], batch: int) -> None:
        first = links[0]
        self.delay, self.drop, self.noise, self.bits = first.delay, first.drop, first.noise, first.bits
        self.links, self.batch = links, batch
        self._losses = torch.tensor([seed_for(link.seed, "link", link.name) for link in links])
        self._noises = torch.tensor([seed_for(link.seed, "noise", link.name) for link in links])

    def lost(self, stamp: int, rows: int, device: torch.device | str) -> Tensor | None:
        """Return which rows lose the message of `stamp`, [K * B] bool; None on links that lose nothing."""
        if self.drop == 0.0:
            return None
        return (uniform_many(self._losses.to(device), stamp, self.batch) < self.drop).flatten()

    def carry(self, stamp: int, message: Tensor) -> Tensor:
        """Return the messages of `stamp`, [K * B, M], as they are received (see `Link.carry`)."""
        if self.bits is None and self.noise == 0.0:
            return message
        sent = constant(message)
        received = sent if self.bits is None else quantised(sent, self.bits)
        if self.noise:
            each = sent.numel() // len(self.links)
            sampled = normal_many(self._noises.to(sent.device), stamp, each)
            received = received + (self.noise * sampled).view_as(sent).to(sent.dtype)
        return received + (message - sent) if message.requires_grad else received


def quantised(message: Tensor, bits: int) -> Tensor:
    """Round [B, M] to 2^bits levels evenly spaced over [-s, s], s the largest magnitude of each sample."""
    intervals = (1 << bits) - 1
    largest = message.abs().amax(1, keepdim=True)
    share = message / torch.where(largest > 0, largest, torch.ones_like(largest))  # of a zero message: zeros
    level = ((share + 1) * (intervals / 2)).round()
    return largest * ((2 * level - intervals) / intervals)
