"""Step times of parts in lockstep, by formula: each waits only for what its neighbours sent `lookahead` steps before."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from antiphon.engine.core.system import System
from antiphon.engine.parts.placement import (
    Placement,
    agent_costs,
    cut_channels,
    lookahead_of,
    message_bytes,
    returned_bytes,
)
from antiphon.engine.planning.rivals.asynchronous_pipeline import ladder
from antiphon.engine.planning.rivals.placed import MeasuredSpeed, call_seconds, expected_slowest
from antiphon.engine.planning.rivals.step_times import StepTime
from antiphon.engine.virtual.profile import ClusterProfile

__all__ = ["delays", "lockstep", "longest_call", "part_seconds"]


def part_seconds(
    system: System, placement: Placement, profile: ClusterProfile, measured: MeasuredSpeed | None = None
) -> dict[int, float]:
    """Return the seconds of a step of each part, the mean over steps, without chance: part i is on machine i.

    Args:
        system: Under a learning rule; its predictors count.
        placement: The part of each agent.
        profile: The cluster.
        measured: For machines whose profile says `measure`.
    """
    costs = agent_costs(system)
    seconds = {}
    for part in sorted(set(placement.values())):
        own = [name for name in system.agents if placement[name] == part]
        flop = sum(costs[name] for name in own)
        ticks = sum(1 / system.agents[name].clock.period for name in own)
        timed = None if measured is None else measured.seconds(ticks, flop)
        seconds[part] = profile.machine(part).compute.seconds(flop, timed)
    return seconds


def lockstep(
    system: System, placement: Placement, profile: ClusterProfile, measured: MeasuredSpeed | None = None
) -> StepTime:
    """Return the time of a step of parts in lockstep, which are at most `lookahead` L steps apart (conservative
    synchronisation, Chandy and Misra 1979): `max(compute of the slowest, (compute + call) / L)`.

    What chance does to a step is taken as if all waited for the slowest at every step, which L > 1 makes milder.

    Args:
        system: Under a learning rule, with the delays of its links.
        placement: The part of each agent.
        profile: The cluster; part i is on machine i.
        measured: For machines whose profile says `measure`.
    """
    seconds = part_seconds(system, placement, profile, measured)
    slowest = max(
        own * expected_slowest(profile.machine(part).compute, len(seconds)) for part, own in seconds.items()
    )
    ahead = lookahead_of(system, placement)
    calls = _calls(system, placement)
    around = [
        max(
            (slowest + call_seconds(profile.link(*ends), nbytes)) / ahead,
            profile.link(*ends).transfer(nbytes),
        )
        for ends, nbytes in calls.items()
    ]
    step = max([slowest, *around])
    computing = sum(own * profile.machine(part).compute.mean_factor for part, own in seconds.items())
    return StepTime.of(step, computing, profile, list(seconds), f"delay {ahead}" if calls else "")


def delays(
    system: System, placement: Placement, profile: ClusterProfile, measured: MeasuredSpeed | None = None
) -> tuple[int, ...]:
    """Return the delays of links to be tried: from 1 to as many steps as a message is under way."""
    seconds = part_seconds(system, placement, profile, measured)
    fastest, slowest = min(seconds.values()), max(seconds.values())
    longest = longest_call(system, placement, profile)
    most = max(1, math.ceil((slowest + longest) / slowest)) if fastest else 1
    return ladder(1, most)


def longest_call(system: System, placement: Placement, profile: ClusterProfile) -> float:
    """Return the mean time of the longest of the calls that parts make in a step; 0 where nothing is cut."""
    calls = _calls(system, placement).items()
    return max((call_seconds(profile.link(*ends), nbytes) for ends, nbytes in calls), default=0.0)


def _calls(system: System, placement: Placement) -> Mapping[tuple[int, int], float]:
    """Return the bytes of a step from part to part."""
    calls: dict[tuple[int, int], float] = defaultdict(float)
    for channel in cut_channels(system, placement):
        ends = placement[channel.sender], placement[channel.receiver]
        calls[ends] += message_bytes(system, channel)
        calls[ends[::-1]] += returned_bytes(system, channel)
    return calls
