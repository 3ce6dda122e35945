"""Seconds of the steps of parts, without chance: by FLOP as a profile says, or timed on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from antiphon.engine.core.system import System
from antiphon.engine.parts.part import Part
from antiphon.engine.parts.placement import agent_costs
from antiphon.engine.virtual.profile import ClusterProfile

__all__ = ["seconds_of_steps"]

_MEASURED_STEPS = 24
"""Of each part that is timed."""


def seconds_of_steps(
    whole: System, placement: Mapping[str, int], profile: ClusterProfile, make: Callable[[int], Part]
) -> list[float]:
    """Return the seconds of a step of each part.

    Args:
        whole: All agents.
        placement: The part of each; part i is on machine i.
        profile: The cluster.
        make: Makes a part, to be timed.
    """
    costs, found = agent_costs(whole), []
    for number in range(max(placement.values()) + 1):
        compute = profile.machine(number).compute
        flop = sum(cost for name, cost in costs.items() if placement[name] == number)
        found.append(compute.seconds(flop, _timed(make(number)) if compute.measure else None))
    return found


def _timed(part: Part) -> float:
    """Return the median seconds of a part's step, on messages of zeros; the part is closed."""
    times = []
    try:
        for _ in range(_MEASURED_STEPS):
            start = time.perf_counter()
            part.step()
            for neighbour in part.neighbours:
                part.collect(neighbour)
            times.append(time.perf_counter() - start)
    finally:
        part.close()
    return statistics.median(times)
