"""What a placement cuts: the share of each part, what crosses, and how far parts may be apart."""

from __future__ import annotations

from dataclasses import dataclass

from antiphon.distributed.parts.placement import (
    Placement,
    channel_lookahead,
    cut_channels,
    message_bytes,
    returned_bytes,
)
from antiphon.engine.flop import agent_flop
from antiphon.engine.heart.system import System


@dataclass(frozen=True)
class Division:
    """A system divided by a placement.

    Attributes:
        parts: The agents of each part.
        shares: Of each part, its share of the FLOP of a step.
        cut: By cut channel, the steps that it lets its two parts be apart.
        total: Number of message channels between agents.
        bytes: A step, over all cut channels in both directions.
        lookahead: Steps that the parts may be apart; None: nothing is cut.
        speedup: At most so many times as fast as one part: all FLOP by those of the busiest part.
    """

    parts: tuple[tuple[str, ...], ...]
    shares: tuple[float, ...]
    cut: dict[str, int]
    total: int
    bytes: float
    lookahead: int | None
    speedup: float


def division_of(system: System, placement: Placement) -> Division:
    """Return what a placement cuts that has been checked (`placement_for`)."""
    channels, costs = cut_channels(system, placement), agent_flop(system)
    count = max(placement.values()) + 1
    parts = tuple(tuple(name for name in system.agents if placement[name] == part) for part in range(count))
    flop = [sum(costs[name] for name in names) for names in parts]
    total = sum(flop) or 1.0
    cut = {channel.name: channel_lookahead(system, channel) for channel in channels}
    return Division(
        parts=parts,
        shares=tuple(flop_of_part / total for flop_of_part in flop),
        cut=cut,
        total=sum(channel.sender != channel.receiver for channel in system.channels.values()),
        bytes=sum(message_bytes(system, channel) + returned_bytes(system, channel) for channel in channels),
        lookahead=min(cut.values(), default=None),
        speedup=total / (max(flop) or 1.0),
    )
