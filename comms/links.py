"""Links: loss, noise and quantisation of messages on their way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.nets.mask import NONE, Mask
from antiphon.nets.per_member import PerMember, nonzero, scaled, to_rows
from antiphon.nets.random import normal_many, seed_for, uniform_many


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

    def perfect(self) -> Link:
        """Return the link without loss, noise and rounding; one that loses every message is cut, and stays so."""
        cut = torch.as_tensor(self.drop, dtype=torch.float64).floor()
        drop = cut if cut.dim() else cut.item()
        return replace(self, drop=drop if cut.any() else 0.0, noise=0.0, bits=None)

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
        return nonzero(self.noise)

    def carry(self, stamp: int, message: Tensor) -> Tensor:
        """Return the message of step `stamp` as it is received: quantised at the sender, with noise added on the link.

        A pure function of seeds, names, stamp and message. The gradient passes straight through: the sent message
        gets the gradient of the received one.

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
        """Return messages, [rows, M], of one step or of several, as they are received, each row by itself; see `carry`."""
        if self.bits is None and noise is None:
            return message
        sent = constant(message)
        received = sent if self.bits is None else of_levels(*levels_of(sent, self.bits), self.bits)
        if noise is not None:
            received = received + noise
        # The difference is zero, so the values are exactly those received.
        return received + (message - sent) if message.requires_grad else received


def levels_of(message: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return the level of each component of [B, M], and the largest magnitude s of each sample, [B, 1].

    Levels are floats from 0 to 2^bits - 1, evenly spaced over [-s, s].
    """
    intervals = (1 << bits) - 1
    largest = message.abs().amax(1, keepdim=True)
    share = message / torch.where(largest > 0, largest, torch.ones_like(largest))  # of a zero message: zeros
    level = ((share + 1) * (intervals / 2)).round()
    return level, largest


def of_levels(level: Tensor, largest: Tensor, bits: int) -> Tensor:
    intervals = (1 << bits) - 1
    return largest * ((2 * level - intervals) / intervals)
