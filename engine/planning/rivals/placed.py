"""A workload on the machines of a cluster: seconds of its ticks and messages, and of a window in which everything waits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from antiphon.engine.planning.rivals.workload import AgentCost, MessageCost, Workload
from antiphon.engine.virtual.profile import SECONDS_A_DAY, ClusterProfile, ComputeSpec, LinkSpec

__all__ = ["MeasuredSpeed", "PlacedWorkload", "availability", "call_seconds", "expected_slowest"]

_GRID = 4096
"""Points of the integral over a step's distribution."""
_DEVIATIONS = 6.0
_WINDOWS = 4
"""Windows that are computed one after the other; the first has no messages of one before."""

Tick = tuple[str, int]
"""An agent and a step."""
Waits = list[tuple[Tick, float]]
"""Ticks that are waited for, and the seconds on the way from each."""


@dataclass(frozen=True)
class MeasuredSpeed:
    """Step times of this machine, as a line through measurements: `agent x agents + flop x FLOP` seconds."""

    agent: float
    """Seconds a step that each agent takes, whatever it computes."""
    flop: float
    """Seconds per FLOP."""

    def seconds(self, agents: float, flop: float) -> float:
        """Return the seconds of a step of so many agents and FLOP."""
        return self.agent * agents + self.flop * flop


@dataclass(frozen=True)
class PlacedWorkload:
    """A workload whose agents have machines; the agents of one machine compute one after the other.

    Seconds are means: of a machine's step with its stragglers, of a link with its losses.
    """

    workload: Workload
    placement: Mapping[str, int]
    """Machine of each agent, by its number in the profile."""
    profile: ClusterProfile
    measured: MeasuredSpeed | None = None
    """For machines whose profile says `measure`."""

    @cached_property
    def machines(self) -> tuple[int, ...]:
        """The machines that have agents, in the order in which these tick."""
        return tuple(dict.fromkeys(self.placement[name] for name in self.workload.agents))

    @cached_property
    def agents_of(self) -> dict[int, dict[str, AgentCost]]:
        """The agents of each machine."""
        found: dict[int, dict[str, AgentCost]] = {machine: {} for machine in self.machines}
        for name, cost in self.workload.agents.items():
            found[self.placement[name]][name] = cost
        return found

    def step_seconds(self, machine: int, share: float = 1.0) -> float:
        """Return what a machine computes in a step, the mean over steps, without stragglers.

        Args:
            machine: Its number.
            share: Of the batch.
        """
        own = self.agents_of[machine].values()
        flop = share * sum(cost.flop for cost in own)
        ticks = sum(1 / cost.clock.period for cost in own)
        compute = self.profile.machine(machine).compute
        measured = None if self.measured is None else self.measured.seconds(ticks, flop)
        return compute.seconds(flop, measured)

    def busy_seconds(self, machine: int, share: float = 1.0) -> float:
        """Return what a machine computes in a window for a share of the batch, without stragglers."""
        return self.workload.window * self.step_seconds(machine, share)

    def computing_seconds(self, share: float = 1.0) -> float:
        """Return what all machines compute in a step for a share of the batch, their sum, with stragglers."""
        return sum(
            self.step_seconds(machine, share) * self.profile.machine(machine).compute.mean_factor
            for machine in self.machines
        )

    def tick_seconds(self, name: str, share: float = 1.0) -> tuple[float, float]:
        """Return the seconds of an agent's tick and of its gradients: its share of its machine's steps, by FLOP."""
        machine = self.placement[name]
        own = self.agents_of[machine]
        counted = sum(cost.flop for cost in own.values()) > 0
        total = sum(cost.flop if counted else 2 / cost.clock.period for cost in own.values())
        each = self.step_seconds(machine, share) * self.profile.machine(machine).compute.mean_factor / total
        cost = own[name]
        return (each * cost.forward, each * cost.backward) if counted else (each, each)

    def link_seconds(self, sender: str, receiver: str, nbytes: float) -> float:
        """Return the mean time of a message between two agents."""
        return call_seconds(self._link(sender, receiver), nbytes)

    def _link(self, sender: str, receiver: str) -> LinkSpec:
        return self.profile.link(self.placement[sender], self.placement[receiver])

    def transfer_seconds(self, share: float = 1.0) -> float:
        """Return for how long the busiest link is occupied, one way, by the messages of a window for a share of the batch."""
        occupied: dict[tuple[int, int], float] = defaultdict(float)
        for message in self.workload.messages:
            seconds = self._link(message.sender, message.receiver).transfer(message.nbytes * share)
            sent = self.workload.window / self.workload.agents[message.sender].clock.period
            ends = self.placement[message.sender], self.placement[message.receiver]
            for way in (ends, ends[::-1]):  # the gradient returns
                occupied[way] += sent * seconds
        return max(occupied.values(), default=0.0)

    def window_seconds(self, share: float = 1.0) -> float:
        """Return the seconds from window to window, each computed forward and then back, every tick as soon as its messages
        are there, those of the window before too.

        Of a chain of machines and windows of one step: `sum of compute + 2 x sum of the links' times`.

        Args:
            share: Of the batch.
        """
        free: dict[int, float] = dict.fromkeys(self.machines, 0.0)
        seconds = {name: self.tick_seconds(name, share) for name in self.workload.agents}
        forward = {name: own[0] for name, own in seconds.items()}
        backward = {name: own[1] for name, own in seconds.items()}
        sent: dict[Tick, float] = {}
        ends = []
        for window in range(_WINDOWS):
            ticks = self._ticks(window)
            uses: dict[Tick, Waits] = defaultdict(list)
            reads = {tick: list(self._reads(tick, share)) for tick in ticks}
            for tick in ticks:
                for source, way in reads[tick]:
                    uses[source].append((tick, way))
            sent |= self._run(ticks, reads, forward, free, sent)
            self._run(ticks[::-1], uses, backward, free, {})
            ends.append(max(free.values()))
        return (ends[-1] - ends[0]) / (_WINDOWS - 1)

    def _ticks(self, window: int) -> list[Tick]:
        """Return the ticks of a window in order."""
        steps = range(window * self.workload.window, (window + 1) * self.workload.window)
        return [
            (name, step)
            for step in steps
            for name, cost in self.workload.agents.items()
            if cost.clock.due(step)
        ]

    def _run(
        self,
        order: Iterable[Tick],
        waits: Mapping[Tick, Waits],
        seconds: Mapping[str, float],
        free: dict[int, float],
        before: Mapping[Tick, float],
    ) -> dict[Tick, float]:
        """Compute ticks in order, each when its machine is free and what it waits for has come, and return their ends.

        Args:
            order: The ticks.
            waits: What each waits for.
            seconds: Of a tick, by agent.
            free: When each machine is free; it moves on.
            before: Ends of earlier ticks.
        """
        ended = dict(before)
        for tick in order:
            machine = self.placement[tick[0]]
            ready = max((ended[other] + way for other, way in waits.get(tick, ())), default=0.0)
            ended[tick] = free[machine] = max(free[machine], ready) + seconds[tick[0]]
        return ended

    def _reads(self, tick: Tick, share: float) -> Iterator[tuple[Tick, float]]:
        """Yield the ticks whose messages a tick reads, and their time on the way."""
        name, step = tick
        for message in self._incoming.get(name, ()):
            stamp = self.workload.agents[message.sender].clock.latest(step - message.delay)
            if stamp is not None and stamp >= 0:
                yield (message.sender, stamp), self.link_seconds(message.sender, name, share * message.nbytes)

    @cached_property
    def _incoming(self) -> dict[str, list[MessageCost]]:
        found: dict[str, list[MessageCost]] = defaultdict(list)
        for message in self.workload.messages:
            if message.sender != message.receiver:
                found[message.receiver].append(message)
        return found


def call_seconds(link: LinkSpec, nbytes: float) -> float:
    """Return the mean time of a call that is repeated until it arrives: a loss is noticed after a round trip."""
    lost = link.loss / (1 - link.loss)
    return link.seconds(nbytes) + lost * (2 * link.latency + link.transfer(nbytes))


@lru_cache(maxsize=256)
def expected_slowest(compute: ComputeSpec, machines: int) -> float:
    """Return the mean of the largest of the factors by which chance stretches one step of so many machines.

    The factor is log-normal with mean 1, times that of stragglers: E[max] is the integral of 1 - F(x)^machines.
    """
    spread, straggler = compute.spread, compute.stragglers
    share, factor = (0.0, 1.0) if straggler is None else (straggler.share, straggler.factor)
    if spread == 0:
        return 1 + (factor - 1) * (1 - (1 - share) ** machines)

    def below(x: float) -> float:
        """The distribution function of one factor."""
        ordinary, slow = (
            0.5 * (1 + math.erf((math.log(x / times) / spread + spread / 2) / math.sqrt(2)))
            for times in (1.0, factor)
        )
        return (1 - share) * ordinary + share * slow

    top = factor * math.exp(spread * (_DEVIATIONS + math.sqrt(2 * math.log(machines + 1))))
    width = top / _GRID
    return width * sum(1 - below((index + 0.5) * width) ** machines for index in range(_GRID))


def availability(profile: ClusterProfile, machines: Iterable[int], step: float) -> float:
    """Return the share of time in which a run makes progress that waits for all its machines, to first order.

    Each failure costs the outage and, the mean, half of the steps between two checkpoints (Young 1974):
    `1 / (1 + sum over machines of rate x (outage + checkpoint x step / 2))`.

    Args:
        profile: The cluster.
        machines: Those of the run, by number.
        step: Seconds of a step.
    """
    lost = 0.0
    for number in machines:
        failures = profile.machine(number).failures
        if failures is not None:
            lost += failures.per_day / SECONDS_A_DAY * (failures.outage + failures.checkpoint * step / 2)
    return 1 / (1 + lost)
