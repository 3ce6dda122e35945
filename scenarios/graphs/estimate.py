"""Estimate of what a document's agents and channels take, from its numbers alone, before any of them is made; and one line
where that is too much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from antiphon.nets.memory import installed_memory
from antiphon.scenarios.problems import DocumentError, Path

__all__ = ["MOST_SECONDS", "MOST_TRIES", "Estimate", "estimate", "refuse_what_is_too_large", "tries_of"]

MOST_SECONDS = 10.0
"""Seconds that the agents and channels of a document may take to be made and checked."""
MOST_TRIES = 100
"""Small worlds that are made, at most, until one is connected."""
_AGENT_SECONDS = 2e-4
_CHANNEL_SECONDS = 1e-4
"""Measured: 1.7e-4 and 0.8e-4 of one core, rings and small worlds of 1,000 to 8,000 agents, read, built by kind and advised on."""
_LAYER_SECONDS = 2e-3
_SHALLOW = 4
"""Hidden layers of an agent that are not counted for themselves."""
_EDGE_SECONDS = 3e-6
"""Of a small world, once it is made."""
_PAIR_SECONDS = 1.5e-7
"""Of two agents of a random graph, of which it is sampled whether there is an edge between them."""
_AGENT_BYTES, _CHANNEL_BYTES = 40_000, 20_000
"""Of the objects that describe and run one, parameters and activations left out."""
_MOST_EDGES = 2_000_000
"""Edges of all small worlds that are made until one is connected."""


@dataclass(frozen=True)
class Estimate:
    """Number of agents and channels that a document has, and what they take to be made."""

    agents: int
    channels: int
    layers: int = 0
    """Hidden layers of networks that are written out, as far as these have more than 4."""
    search: float = 0.0
    """Seconds in which a random graph is found."""

    @property
    def memory(self) -> int:
        """Bytes."""
        return self.agents * _AGENT_BYTES + self.channels * _CHANNEL_BYTES

    @property
    def seconds(self) -> float:
        """Seconds of a core."""
        made = self.agents * _AGENT_SECONDS + self.channels * _CHANNEL_SECONDS
        return made + self.layers * _LAYER_SECONDS + self.search

    def problem(self, noun: str) -> str | None:
        """Return why it is too much, and the fix; None: it is not. `noun`: of what there are too many."""
        count = {"agents": self.agents, "channels": self.channels, "layers": self.layers}[noun]
        installed = installed_memory()
        if installed is not None and self.memory > installed:
            need = f"{count:,} {noun} need about {_in_bytes(self.memory)}"
            return f"{need}; this machine has {_in_bytes(installed)}: take fewer"
        if self.seconds > MOST_SECONDS:
            need = f"{count:,} {noun} take about {_in_time(self.seconds)} to be made and checked"
            return f"{need}, and a document may take {MOST_SECONDS:g} s: take fewer, or make the scenario in Python"
        return None


def estimate(
    kind: str, agents: int, neighbours: int | None, rewire: float | None, probability: float | None
) -> Estimate:
    """Return the estimate of a generated graph, of the numbers of its `GraphSpec`."""
    neighbours, search = neighbours or 0, 0.0
    channels = agents if kind == "ring" else agents - 1
    if kind == "small_world":
        channels = agents * neighbours
        search = channels / 2 * (tries_of(agents, neighbours) if rewire else 1) * _EDGE_SECONDS
    elif kind == "scale_free":
        channels = 2 * neighbours * (agents - neighbours)
    elif kind == "random":
        pairs = agents * (agents - 1) / 2
        channels = math.ceil(2 * pairs * (probability or 0.0)) + 2 * agents
        search = pairs * _PAIR_SECONDS
    return Estimate(agents, channels, search=search)


def tries_of(agents: int, neighbours: int) -> int:
    """Return how many small worlds are made until one is connected, at most."""
    edges = agents * neighbours // 2
    return max(1, min(MOST_TRIES, _MOST_EDGES // max(1, edges)))


_NOTHING = Estimate(0, 0)
_NO_SECTIONS: Mapping[str, Any] = {}


def refuse_what_is_too_large(
    body: Mapping[str, Any], generated: Estimate = _NOTHING, sections: Mapping[str, Any] = _NO_SECTIONS
) -> None:
    """Refuse a document whose agents, channels and layers, written out and generated together, are too many.

    Raises:
        DocumentError: They are; the place is that of most of them.
    """
    agents, channels = body.get("agents"), body.get("channels")
    written = Estimate(
        len(agents) if isinstance(agents, Mapping) else 0,
        len(channels) if isinstance(channels, list) else 0,
        _layers(agents),
    )
    whole = Estimate(
        written.agents + generated.agents,
        written.channels + generated.channels,
        written.layers,
        generated.search,
    )
    for name, section in sections.items():
        layers = Estimate(
            0, 0, sum(_layers_of(one) for one in (section if isinstance(section, list) else [section]))
        )
        problem = layers.problem("layers")
        if problem is not None:
            raise DocumentError((name,), problem)
    path: Path = ("graph", "agents")
    noun = "agents"
    if generated.seconds <= written.seconds:
        parts = {
            "agents": written.agents * _AGENT_SECONDS,
            "channels": written.channels * _CHANNEL_SECONDS,
            "layers": written.layers * _LAYER_SECONDS,
        }
        noun = max(parts, key=parts.__getitem__)
        path = ("channels",) if noun == "channels" else ("agents",)
    elif generated.channels > 8 * generated.agents:
        path, noun = ("graph",), "channels"
    problem = whole.problem(noun)
    if problem is not None:
        raise DocumentError(path, problem)


def _layers(agents: object) -> int:
    """Hidden layers of agents that are written out, those left out that every network may have."""
    return sum(map(_layers_of, agents.values())) if isinstance(agents, Mapping) else 0


def _layers_of(agent: object) -> int:
    network = agent.get("network") if isinstance(agent, Mapping) else None
    if not isinstance(network, Mapping):
        return 0
    lists = (network.get(key) for key in ("hidden", "encoder"))
    count = sum(len(sizes) for sizes in lists if isinstance(sizes, list | tuple))
    return max(0, count - _SHALLOW)


def _in_bytes(count: int) -> str:
    """Write bytes as GB or TB."""
    size, unit = (10**12, "TB") if count >= 10**12 else (10**9, "GB")
    return f"{count / size:,.0f} {unit}" if count < 10**30 else "more than there is"


def _in_time(seconds: float) -> str:
    """Write seconds as s, min, h or days."""
    for size, unit in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
