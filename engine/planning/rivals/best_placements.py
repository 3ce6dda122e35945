"""The machines of a cluster that suit a scenario best, by rival and by formula: how many, and of which group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from antiphon.engine.core.system import System
from antiphon.engine.parts.placement import Placement, partition
from antiphon.engine.planning.rivals.lockstep import longest_call, part_seconds
from antiphon.engine.planning.rivals.placed import MeasuredSpeed, PlacedWorkload
from antiphon.engine.planning.rivals.step_times import data_parallel, model_parallel, pipeline
from antiphon.engine.planning.rivals.workload import Workload
from antiphon.engine.virtual.profile import ClusterProfile
from antiphon.scenarios import Scenario

__all__ = ["BestPlacement", "Candidate", "best_placements", "candidates"]

_ALIKE = 0.99
"""A placement on more machines has to take at most this share of the time."""
_EACH = 8
"""Numbers of parts up to this are all tried, larger ones if they are powers of two."""


@dataclass(frozen=True)
class Candidate:
    """A placement on the first machines of a cluster, or of one of its groups."""

    profile: ClusterProfile
    placement: Placement


@dataclass(frozen=True)
class BestPlacement:
    """Where a rival takes the least time for a step."""

    rival: str
    machines: tuple[str, ...]
    """Names, by part."""
    placement: dict[str, int]
    """The part of each agent; empty where every machine has a copy of all."""
    step_seconds: float
    """By formula: with chance and failures; of parts that do not wait, of the slowest part."""


def candidates(system: System, scenario: Scenario, profile: ClusterProfile, most: int) -> Iterator[Candidate]:
    """Yield placements of a scenario on two parts and more, on machines of all groups and of each alone.

    Args:
        system: Of the scenario with channels that can be cut.
        scenario: That scenario.
        profile: The cluster.
        most: Parts at most.
    """
    alone = [_group(profile, name) for name in profile.machines] if len(profile.machines) > 1 else []
    for parts in range(2, most + 1):
        if parts > _EACH and parts != most and parts & (parts - 1):
            continue
        placement = partition(system, scenario, parts)
        for one in (profile, *alone):
            if parts <= one.size:
                yield Candidate(one, placement)


def best_placements(
    system: System,
    scenario: Scenario,
    workload: Workload,
    profile: ClusterProfile,
    most: int,
    measured: MeasuredSpeed | None = None,
) -> tuple[BestPlacement, ...]:
    """Return the best placement of the rivals that a placement matters to.

    Args:
        system: Decoupled, with channels that can be cut.
        scenario: Of the system.
        workload: Of the locked scenario.
        profile: The cluster.
        most: Parts at most.
        measured: For machines whose profile says `measure`.
    """

    def copies(one: Candidate) -> tuple[float, float]:
        machines = range(max(one.placement.values()) + 1)
        return data_parallel(workload, machines, one.profile, measured).seconds, 0.0

    def parts(one: Candidate) -> tuple[float, float]:
        seconds = part_seconds(system, one.placement, one.profile, measured)
        slowest = max(own * one.profile.machine(part).compute.mean_factor for part, own in seconds.items())
        return slowest, longest_call(system, one.placement, one.profile)

    def on(one: Candidate) -> PlacedWorkload:
        return PlacedWorkload(workload, one.placement, one.profile, measured)

    times: dict[str, Callable[[Candidate], tuple[float, float]]] = {
        "locked": lambda one: (model_parallel(on(one)).seconds, 0.0),
        "1F1B pipeline": lambda one: (pipeline(on(one)).seconds, 0.0),
        "data parallel": copies,
        "decoupled": parts,
    }
    if workload.batch < 2:
        del times["data parallel"]
    tried = list(candidates(system, scenario, profile, most))
    return tuple(_best(rival, tried, time) for rival, time in times.items())


def _best(
    rival: str, tried: list[Candidate], time: Callable[[Candidate], tuple[float, float]]
) -> BestPlacement:
    """Return the placement of the shortest step, and of the shortest calls among those; of equals the first."""
    best, least = tried[0], time(tried[0])
    for one in tried[1:]:
        found = time(one)
        quicker = found[0] < _ALIKE * least[0]
        nearer = found[0] <= least[0] / _ALIKE and found[1] < _ALIKE * least[1]
        if quicker or nearer:
            best, least = one, found
    parts = max(best.placement.values()) + 1
    machines = tuple(best.profile.machine(part).name for part in range(parts))
    placement = {} if rival == "data parallel" else dict(best.placement)
    return BestPlacement(rival, machines, placement, least[0])


def _group(profile: ClusterProfile, name: str) -> ClusterProfile:
    """Return the cluster of one group of machines."""
    links = tuple(link for link in profile.links if set(link.between) == {name})
    return ClusterProfile(
        cluster=profile.cluster,
        machines={name: profile.machines[name]},
        links=links,
        compute=profile.compute,
        failures=profile.failures,
    )
