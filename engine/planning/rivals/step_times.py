"""Step times of rivals that wait, by formulas over a cluster profile: model parallel, pipeline, data parallel, one machine.

All are means. Compute times are those of `PlacedWorkload`; activations are assumed to fit, optimiser steps and loading of
data to cost nothing beside the FLOP, and no part to fail twice within an outage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

from antiphon.engine.planning.rivals.placed import (
    MeasuredSpeed,
    PlacedWorkload,
    availability,
    call_seconds,
    expected_slowest,
)
from antiphon.engine.planning.rivals.workload import Workload
from antiphon.engine.virtual.profile import ClusterProfile, LinkSpec
from antiphon.errors import ScenarioError

__all__ = ["StepTime", "data_parallel", "model_parallel", "one_machine", "pipeline"]

_EACH = 16
"""Numbers of copies up to this are all tried, larger ones if they are powers of two."""


@dataclass(frozen=True)
class StepTime:
    """Time of a step of the scenario, the mean."""

    seconds: float
    """With what failures cost."""
    goodput: float
    """Share of the machines' time in which they compute what counts."""
    setting: str
    """What was chosen: `16 microbatches`; "" where nothing is."""

    @classmethod
    def of(
        cls,
        seconds: float,
        computing: float,
        profile: ClusterProfile,
        machines: Sequence[int],
        setting: str = "",
    ) -> StepTime:
        """Return the time of a step with what failures cost a run that waits for all its machines.

        Args:
            seconds: Without failures.
            computing: Of these, what the machines compute, their sum.
            profile: The cluster.
            machines: Those of the run, by number.
            setting: What was chosen.
        """
        whole = seconds / availability(profile, machines, seconds)
        return cls(whole, computing / (len(machines) * whole), setting)


def model_parallel(placed: PlacedWorkload) -> StepTime:
    """Return the time of a locked step, one minibatch at a time over all machines.

    A chain of S machines takes `sum of compute + 2 x sum of the S - 1 links' times`: no two compute at once.
    """
    seconds = placed.window_seconds() / placed.workload.window
    return StepTime.of(seconds, placed.computing_seconds(), placed.profile, placed.machines)


def pipeline(placed: PlacedWorkload) -> StepTime:
    """Return the time of a locked step as a synchronous pipeline, with the number of microbatches that is best.

    M microbatches take the first one's time from end to end and M - 1 times that of the busiest machine or link:
    `(M - 1) x max(f + b) / M` beside the fill, whose share of an even pipeline is the bubble `(S - 1) / M` (GPipe, Huang et
    al. 2019, section 2.3; the same for 1F1B, Narayanan et al. 2021, section 2.2.1). As many microbatches are in flight as
    hide the links; each pays the machine's time per step.
    """
    count = len(placed.machines)

    def seconds(microbatches: int) -> float:
        share = 1 / microbatches
        busiest = max(
            placed.busy_seconds(machine, share)
            * expected_slowest(placed.profile.machine(machine).compute, count)
            for machine in placed.machines
        )
        following = max(busiest, placed.transfer_seconds(share))
        return (placed.window_seconds(share) + (microbatches - 1) * following) / placed.workload.window

    best = min(_divisors(placed.workload.batch), key=seconds)
    setting = f"{best} microbatch" + ("" if best == 1 else "es")
    computing = best * placed.computing_seconds(1 / best)
    return StepTime.of(seconds(best), computing, placed.profile, placed.machines, setting)


def data_parallel(
    workload: Workload,
    machines: Sequence[int],
    profile: ClusterProfile,
    measured: MeasuredSpeed | None = None,
) -> StepTime:
    """Return the time of a step of whole copies that share the batch, with the number of copies that is best, from two on.

    Every window the slowest of R copies is waited for, then gradients of `n` bytes are exchanged: by ring all-reduce,
    `2 (R - 1) calls of n / R bytes` over the slowest link (Patarasu and Yuan 2009), or directly, each copy sending to all
    others one after the other, `a call of (R - 1) n bytes`. The quicker one counts.

    Args:
        workload: The scenario.
        machines: The machines that may be used, by number; at least two.
        profile: The cluster.
        measured: For machines whose profile says `measure`.

    Raises:
        ScenarioError: The batch is 1, which cannot be shared.
    """
    if workload.batch < 2:
        raise ScenarioError("training.batch: 1; copies share a batch of 2 at least")
    one_of_each = {profile.machine(number).group: number for number in reversed(machines)}
    placed = {number: _whole(workload, number, profile, measured) for number in one_of_each.values()}

    def timed(copies: int) -> tuple[float, str]:
        chosen = machines[:copies]
        compute = max(
            one.step_seconds(number, 1 / copies) * expected_slowest(profile.machine(number).compute, copies)
            for number, one in placed.items()
            if number in chosen
        )
        links = _links(profile, chosen)
        ring = max(2 * (copies - 1) * call_seconds(link, workload.parameters / copies) for link in links)
        direct = max(call_seconds(link, (copies - 1) * workload.parameters) for link in links)
        way = "ring all-reduce" if ring < direct else "direct exchange"
        return compute + min(ring, direct) / workload.window, f"{copies} copies, {way}"

    most = min(len(machines), workload.batch)
    counts = [
        copies
        for copies in range(2, most + 1)
        if copies <= _EACH or copies == most or not copies & (copies - 1)
    ]
    best = min(counts, key=lambda copies: timed(copies)[0])
    seconds, setting = timed(best)
    computing = sum(
        placed[one_of_each[profile.machine(number).group]].computing_seconds(1 / best)
        for number in machines[:best]
    )
    return StepTime.of(seconds, computing, profile, machines[:best], setting)


def _links(profile: ClusterProfile, machines: Sequence[int]) -> list[LinkSpec]:
    """Return the links between any two of some machines, those of equal ends once."""
    found: dict[tuple[str, str], LinkSpec] = {}
    by_group: dict[str, list[int]] = {}
    for number in machines:
        by_group.setdefault(profile.machine(number).group, []).append(number)
    for (one, own), (other, others) in combinations_with_replacement(by_group.items(), 2):
        if one != other or len(own) > 1:
            found[one, other] = profile.link(own[0], others[-1])
    return list(found.values())


def one_machine(
    workload: Workload, machine: int, profile: ClusterProfile, measured: MeasuredSpeed | None = None
) -> StepTime:
    """Return the time of a locked step with all agents on one machine, which is assumed to have the memory."""
    placed = _whole(workload, machine, profile, measured)
    return StepTime.of(
        placed.window_seconds() / workload.window, placed.computing_seconds(), profile, (machine,)
    )


def _whole(
    workload: Workload, machine: int, profile: ClusterProfile, measured: MeasuredSpeed | None
) -> PlacedWorkload:
    return PlacedWorkload(workload, dict.fromkeys(workload.agents, machine), profile, measured)


def _divisors(number: int) -> Iterator[int]:
    return (divisor for divisor in range(1, number + 1) if number % divisor == 0)
