"""Estimate of the time that a document's agents and channels take to be made, from its numbers alone, before any of them is
made; and one line where that is too much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from antiphon.scenarios.problems import DocumentError

__all__ = ["MOST_SECONDS", "Estimate", "estimate", "refuse_what_is_too_large", "tries_of"]

MOST_SECONDS = 10.0
"""Seconds that the agents and channels of a document may take to be made and checked."""
_MOST_TRIES = 100
"""Small worlds that are made, at most, until one is connected."""
_AGENT_SECONDS = 2e-4
_CHANNEL_SECONDS = 1e-4
"""Measured: 1.7e-4 and 0.8e-4 of one core, rings and small worlds of 1,000 to 8,000 agents, read, built by kind and advised on."""
_EDGE_SECONDS = 3e-6
"""Of a small world, once it is made."""
_MOST_EDGES = 2_000_000
"""Edges of all small worlds that are made until one is connected."""


@dataclass(frozen=True)
class Estimate:
    """Number of agents and channels that a document has, and the seconds of a core that they take to be made."""

    agents: int
    channels: int
    search: float = 0.0
    """Seconds in which a small world is found."""

    @property
    def seconds(self) -> float:
        """All seconds."""
        return self.agents * _AGENT_SECONDS + self.channels * _CHANNEL_SECONDS + self.search


def estimate(kind: str, agents: int, neighbours: int | None, rewire: float | None) -> Estimate:
    """Return the estimate of a generated graph, of the numbers of its `GraphSpec`."""
    neighbours, search = neighbours or 0, 0.0
    channels = agents if kind == "ring" else agents - 1
    if kind == "small_world":
        channels = agents * neighbours
        search = channels / 2 * (tries_of(agents, neighbours) if rewire else 1) * _EDGE_SECONDS
    elif kind == "scale_free":
        channels = 2 * neighbours * (agents - neighbours)
    return Estimate(agents, channels, search)


def tries_of(agents: int, neighbours: int) -> int:
    """Return how many small worlds are made until one is connected, at most."""
    edges = agents * neighbours // 2
    return max(1, min(_MOST_TRIES, _MOST_EDGES // max(1, edges)))


def refuse_what_is_too_large(body: Mapping[str, Any], generated: Estimate | None = None) -> None:
    """Refuse a document whose agents and channels, written out and generated together, are too many.

    Raises:
        DocumentError: They are.
    """
    agents, channels = body.get("agents"), body.get("channels")
    written = Estimate(
        len(agents) if isinstance(agents, Mapping) else 0, len(channels) if isinstance(channels, list) else 0
    )
    seconds = written.seconds + (0.0 if generated is None else generated.seconds)
    if seconds > MOST_SECONDS:
        most = generated if generated is not None and generated.seconds > written.seconds else written
        raise DocumentError(
            ("graph",) if most is generated else ("agents",) if most.agents else ("channels",),
            f"{most.agents:,} agents and {most.channels:,} channels take about {seconds:,.0f} s to be made and checked, "
            f"and a document may take {MOST_SECONDS:g} s: take fewer, or make the scenario in Python",
        )
