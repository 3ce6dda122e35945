"""What a placement cuts: the share of each part, what crosses, how far parts may be apart, and what stays together."""

from __future__ import annotations

from dataclasses import dataclass

from antiphon.engine.core.system import System
from antiphon.engine.parts.placement import (
    Bond,
    Placement,
    agent_costs,
    bonds,
    channel_lookahead,
    check_free,
    cut_channels,
    message_bytes,
    returned_bytes,
    unaligned_readers,
)
from antiphon.errors import ScenarioError
from antiphon.scenarios.problems import show_path

__all__ = ["CutChannel", "Division", "Joined", "PartShare", "division_of", "joined"]


@dataclass(frozen=True)
class PartShare:
    """What one part computes and sends.

    Attributes:
        part: Its number.
        agents: Their names.
        flop: Of a step, in products of matrices.
        share: Of the FLOP of all parts.
        neighbours: The parts that it exchanges with.
        sends: Bytes a step: messages, and gradients that go back.
    """

    part: int
    agents: tuple[str, ...]
    flop: float
    share: float
    neighbours: tuple[int, ...]
    sends: float


@dataclass(frozen=True)
class CutChannel:
    """A channel whose ends are in different parts.

    Attributes:
        channel: Its name.
        sender: The part of its sender.
        receiver: That of its receiver.
        bytes: A step, in both directions.
        lookahead: Steps that it lets the two parts be apart.
    """

    channel: str
    sender: int
    receiver: int
    bytes: float
    lookahead: int


@dataclass(frozen=True)
class Joined:
    """Pairs of agents that stay together for one reason.

    Attributes:
        pairs: Of agents.
        place: In the document, of the first pair.
        reason: Why.
        fix: What would let them be in different parts.
    """

    pairs: tuple[tuple[str, str], ...]
    place: str
    reason: str
    fix: str


@dataclass(frozen=True)
class Division:
    """A system divided by a placement.

    Attributes:
        parts: What each computes.
        channels: Those that are cut, of all `total`.
        total: Number of message channels between agents.
        lookahead: Steps that the parts may be apart; None: nothing is cut.
        speedup: At most so many times as fast as one part: all FLOP by those of the busiest part.
        free: What keeps parts from running without waiting, or what their agents could mix up; empty: nothing.
    """

    parts: tuple[PartShare, ...]
    channels: tuple[CutChannel, ...]
    total: int
    lookahead: int | None
    speedup: float
    free: str


def division_of(system: System, placement: Placement) -> Division:
    """Return what a placement cuts that has been checked (`placement_for`)."""
    count = max(placement.values()) + 1
    costs = agent_costs(system)
    sends, neighbours = [0.0] * count, [set[int]() for _ in range(count)]
    channels = []
    for channel in cut_channels(system, placement):
        ends = sender, receiver = placement[channel.sender], placement[channel.receiver]
        there, back = message_bytes(system, channel), returned_bytes(system, channel)
        sends[sender] += there
        sends[receiver] += back
        neighbours[sender].add(receiver)
        neighbours[receiver].add(sender)
        channels.append(CutChannel(channel.name, *ends, there + back, channel_lookahead(system, channel)))
    members = [tuple(name for name in system.agents if placement[name] == part) for part in range(count)]
    flop = [sum(costs[name] for name in names) for names in members]
    total = sum(flop) or 1.0
    return Division(
        parts=tuple(
            PartShare(part, members[part], flop[part], flop[part] / total, tuple(sorted(near)), sends[part])
            for part, near in enumerate(neighbours)
        ),
        channels=tuple(channels),
        total=sum(channel.sender != channel.receiver for channel in system.channels.values()),
        lookahead=min((channel.lookahead for channel in channels), default=None),
        speedup=total / (max(flop) or 1.0),
        free=_free(system, placement),
    )


def _free(system: System, placement: Placement) -> str:
    try:
        check_free(system)
    except ScenarioError as error:
        return str(error)
    readers = unaligned_readers(system, placement)
    if not readers:
        return ""
    names = ", ".join(readers[:3]) + (f" and {len(readers) - 3} more" if len(readers) > 3 else "")
    duration = "1 step" if system.hold == 1 else f"{system.hold} steps"
    return f"{names} may read late messages of other examples (each is shown for {duration}); align such agents, or raise env.hold"


def joined(system: System) -> list[Joined]:
    """Return which agents stay together in any placement, by reason, the most frequent first."""
    found: dict[tuple[object, ...], list[Bond]] = {}
    for bond in bonds(system):
        found.setdefault((bond.path[0], *bond.path[2:], bond.reason, bond.fix), []).append(bond)
    return [
        Joined(tuple(bond.agents for bond in some), show_path(some[0].path), some[0].reason, some[0].fix)
        for some in sorted(found.values(), key=len, reverse=True)
    ]
