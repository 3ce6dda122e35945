"""Step times of parts in lockstep, simulated: each waits only for what its neighbours sent `lookahead` steps before."""

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
from antiphon.engine.planning.rivals.placed import MeasuredSpeed, call_seconds
from antiphon.engine.planning.rivals.sampled_times import SampledTimes
from antiphon.engine.planning.rivals.step_times import StepTime
from antiphon.engine.virtual.profile import ClusterProfile

__all__ = ["delays", "lockstep", "longest_call", "part_seconds"]

_PART_STEPS = 20_000
"""Steps of all parts that a mean is over."""
_LEAST_STEPS = 200
"""Of each part."""


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
    system: System,
    placement: Placement,
    profile: ClusterProfile,
    measured: MeasuredSpeed | None = None,
) -> StepTime:
    """Return the time of a step of parts in lockstep, a call a step (conservative synchronisation, Chandy and Misra 1979).

    A part takes step t once its neighbours' calls of step t - L have come, L being the lookahead. Without chance a step takes
    `max(compute of the slowest, (compute + call) / L)` where calls take the same time both ways.

    Args:
        system: Under a learning rule, with the delays of its links.
        placement: The part of each agent.
        profile: The cluster; part i is on machine i.
        measured: For machines whose profile says `measure`.
    """
    seconds = part_seconds(system, placement, profile, measured)
    ahead, calls = lookahead_of(system, placement), _calls(system, placement)
    step = _mean_step(seconds, calls, ahead, profile, SampledTimes(seed=0))
    computing = sum(own * profile.machine(part).compute.mean_factor for part, own in seconds.items())
    return StepTime.of(step, computing, profile, list(seconds), f"delay {ahead}" if calls else "")


def _mean_step(
    seconds: Mapping[int, float],
    calls: Mapping[tuple[int, int], float],
    ahead: int,
    profile: ClusterProfile,
    times: SampledTimes,
) -> float:
    """Return the mean time of a step once the first calls have come.

    Args:
        seconds: Of a step of each part, without chance.
        calls: Bytes of each call from part to part.
        ahead: The lookahead.
        profile: The cluster.
        times: Samples what chance does.
    """
    rounds = math.ceil(max(_LEAST_STEPS, _PART_STEPS / len(seconds)) / ahead)
    waits = {part: [ends for ends in calls if ends[1] == part] for part in seconds}
    computes = {part: profile.machine(part).compute for part in seconds}
    links = {ends: profile.link(*ends) for ends in calls}
    arrived: list[dict[tuple[int, int], float]] = []
    free, begun = dict.fromkeys(seconds, 0.0), 0.0
    for step in range((1 + rounds) * ahead):
        come = arrived[step - ahead] if step >= ahead else {}
        for part, own in seconds.items():
            start = max([free[part], *(come.get(ends, 0.0) for ends in waits[part])])
            free[part] = start + own * times.factor(computes[part])
        arrived.append(
            {ends: times.arrival(*ends, links[ends], nbytes, free[ends[0]]) for ends, nbytes in calls.items()}
        )
        if step == ahead - 1:
            begun = max(free.values())
    return (max(free.values()) - begun) / (rounds * ahead)


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
