"""Parts that only count: what arrives in virtual time, and when, without a network in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from antiphon.engine.parts.boundary import Exchange, Message
from antiphon.engine.parts.part import Part
from antiphon.engine.virtual.cluster import VirtualCluster
from antiphon.engine.virtual.profile import ClusterProfile

HUNDRED_BYTES = np.zeros(25, np.float32)


@dataclass
class CountingPart:
    """One of a chain. `read` has, by step, what had arrived before it; a part that `aligns` waits for the part before it."""

    index: int
    neighbours: tuple[int, ...]
    aligns: bool = False
    now: int = 0
    incarnation: int = 0
    behind: int = 0
    arrived: list[list[int]] = field(default_factory=list)
    read: list[list[list[int]]] = field(default_factory=list)

    def waits_for(self) -> tuple[int, ...]:
        before = self.index - 1
        fresh = any(sender == before for sender, _ in self.arrived)
        return (before,) if self.aligns and before in self.neighbours and not fresh else ()

    def step(self, *, watch: bool = False) -> None:
        self.read.append(self.arrived)
        self.arrived = []
        self.now += 1

    def collect(self, neighbour: int) -> Exchange:
        message = Message("x->y", self.now - 1, HUNDRED_BYTES)
        return Exchange(self.index, self.incarnation, self.now - 1, self.now, [message])

    def deliver(self, exchange: Exchange) -> None:
        self.arrived.append([exchange.sender, exchange.first])

    def own_state(self) -> dict[str, Any]:
        return {"now": self.now, "arrived": [*self.arrived], "read": [*self.read]}

    def load_own_state(self, state: dict[str, Any]) -> None:
        self.now, self.arrived, self.read = state["now"], [*state["arrived"]], [*state["read"]]


def profile(parts: int, **keys: Any) -> ClusterProfile:
    """A cluster of equal machines; keys of the link, `compute` and `failures`."""
    compute = keys.pop("compute", {"step": 1})
    failures = keys.pop("failures", None)
    links = [{"between": ["m", "m"], **keys}] if parts > 1 else []
    return ClusterProfile(
        cluster="test", machines={"m": {"count": parts}}, compute=compute, failures=failures, links=links
    )


def chain(parts: int, *, aligns: bool = False, seed: int = 0, **keys: Any) -> VirtualCluster:
    """A chain of counting parts."""
    cluster = profile(parts, **keys)
    made = [CountingPart(i, tuple(j for j in (i - 1, i + 1) if 0 <= j < parts), aligns) for i in range(parts)]
    seconds = [cluster.machine(i).compute.step for i in range(parts)]
    return VirtualCluster(cluster, cast(list[Part], made), seconds, seed)


def until(cluster: VirtualCluster, seconds: float) -> VirtualCluster:
    """Take all events up to a time."""
    while cluster._heap and cluster._heap[0][0] <= seconds:
        cluster.advance()
    return cluster
