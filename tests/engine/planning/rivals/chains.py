"""Chains of stages on even clusters, whose times can be computed by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from antiphon.engine.core.clock import Clock
from antiphon.engine.planning.rivals.placed import PlacedWorkload
from antiphon.engine.planning.rivals.workload import AgentCost, MessageCost, Workload
from antiphon.engine.virtual.profile import ClusterProfile

FORWARD, BACKWARD = 1e9, 2e9
"""FLOP of a tick; on machines of 1e-9 seconds a FLOP a stage takes 1 s forward and 2 s back."""


def cluster(
    count: int = 8, latency: float = 0.0, compute: dict[str, Any] | None = None, **settings: Any
) -> ClusterProfile:
    """Return a cluster of equal machines; `settings`: `failures`, or of the link."""
    failures = settings.pop("failures", None)
    link = {"between": ["m", "m"], "latency": latency, **settings}
    return ClusterProfile(
        cluster="even",
        machines={"m": {"count": count}},
        links=[link],
        compute={"flop": 1e-9, **(compute or {})},
        failures=failures,
    )


def chain(stages: int, batch: int = 8, nbytes: float = 0.0, parameters: float = 0.0) -> Workload:
    """Return a chain of equal stages that learn after every step."""
    names = [f"s{i}" for i in range(stages)]
    return Workload(
        batch=batch,
        window=1,
        agents={name: AgentCost(FORWARD, BACKWARD, Clock(1, 0)) for name in names},
        messages=tuple(MessageCost(a, b, 0, nbytes) for a, b in pairwise(names)),
        parameters=parameters,
    )


def placed(workload: Workload, profile: ClusterProfile) -> PlacedWorkload:
    """Return a workload with every agent on a machine of its own."""
    return PlacedWorkload(workload, {name: i for i, name in enumerate(workload.agents)}, profile)
