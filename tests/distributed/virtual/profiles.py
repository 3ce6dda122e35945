"""Profiles of clusters of equal machines, and simulations on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antiphon import Scenario, Simulation
from antiphon.distributed.virtual.cluster import VirtualCluster
from antiphon.distributed.virtual.profile import ClusterProfile
from antiphon.distributed.virtual.virtual_coordinator import VirtualCoordinator


def profile(parts: int, **keys: Any) -> ClusterProfile:
    """A cluster of equal machines; keys of the link, and `compute`."""
    compute = keys.pop("compute", {"step": 1})
    links = [{"between": ["m", "m"], **keys}] if parts > 1 else []
    return ClusterProfile(cluster="test", machines={"m": {"count": parts}}, compute=compute, links=links)


def on_cluster(
    scenario: Scenario,
    cluster: ClusterProfile,
    parts: int | Mapping[str, int] | None = None,
    **settings: Any,
) -> Simulation:
    """A simulation in virtual time; `parts`: their number, or the part of each agent."""
    division = {"count": parts} if isinstance(parts, int) else {"placement": parts}
    return Simulation(scenario, parts={"cluster": cluster, **division}, **settings)


def machines_of(simulation: Simulation) -> VirtualCluster:
    """The machines of a simulation in virtual time."""
    executor = simulation.running.executor
    assert isinstance(executor, VirtualCoordinator)
    return executor.cluster
