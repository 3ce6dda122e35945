"""Discrete events: parts of a scenario on the machines and links of a cluster profile, in one process.

A machine computes one step after the other. Exchanges that have arrived when a step begins enter it; the exchanges that a step
makes leave when it ends. The order of the events decides what every part learns from, and nothing else does: no clock is read.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from antiphon.base.errors import RunError
from antiphon.distributed.parts.cut import Exchange
from antiphon.distributed.parts.part import Part
from antiphon.distributed.virtual.profile import ClusterProfile
from antiphon.engine.heart.predictors import Watch
from antiphon.nets.random import normal, seed_for, uniform
from antiphon.telemetry.metrics import PartMetrics

# Events of one time happen in this order: what a step sends reaches, over a link without latency, the steps that begin then.
_END, _ARRIVAL, _BEGIN = range(3)

Event = tuple[float, int, int, int, Any]
"""Time in seconds, kind, running number, part, and the exchange that arrives."""


@dataclass(slots=True)
class MachineState:
    """A machine and the part that it computes, in simulated seconds."""

    metrics: PartMetrics
    computes: bool = False
    since: float = 0.0
    waits_for: int | None = None
    calls_lost: int = 0

    def change(self, now: float, *, computes: bool = False, waits_for: int | None = None) -> None:
        """Add the time up to `now` to the totals, and compute or wait from then on."""
        passed, self.since = now - self.since, now
        if self.computes:
            self.metrics.computing += passed
        elif self.waits_for is not None:
            self.metrics.waiting += passed
        self.computes, self.waits_for = computes, waits_for


class VirtualCluster:
    """Parts that do not wait, part i on machine i of a cluster, in simulated time; a step takes `step_seconds`, but for chance."""

    def __init__(
        self, profile: ClusterProfile, parts: Sequence[Part], step_seconds: Sequence[float], seed: int
    ) -> None:
        self.profile, self.parts, self.step_seconds = profile, parts, list(step_seconds)
        self.hosts = [profile.machine(number) for number in range(len(parts))]
        self.machines = [MachineState(PartMetrics(part=i, machine=m.name)) for i, m in enumerate(self.hosts)]
        self.seconds = 0.0
        self._seed_of = cache(lambda *purpose: seed_for(seed, "virtual", *purpose))
        """Seed of chance, by purpose: with the count of what happens it is all that a number depends on, so nothing is kept."""
        self._heap: list[Event] = []
        self._number = 0
        self._inbox: list[list[Exchange]] = [[] for _ in parts]
        self._free_at: dict[tuple[int, int], float] = {}
        """By sender and receiver: when the link is free again."""
        for number in range(len(parts)):
            self._push(0.0, _BEGIN, number)

    def advance(self, *, watch: Watch = False) -> int | None:
        """Take the next event, and return the part whose step has ended with it; None: none has. For `watch` see `Part.step`."""
        if not self._heap:
            waits = ", ".join(f"part {i} for part {m.waits_for}" for i, m in enumerate(self.machines))
            raise RunError(f"virtual: at {self.seconds:g} s every part waits for another one ({waits})")
        self.seconds, kind, _, part, exchange = heapq.heappop(self._heap)
        if kind == _ARRIVAL:
            self._arrive(part, exchange)
        elif kind == _BEGIN:
            self._begin(part)
        else:
            self._end(part, watch=watch)
            return part
        return None

    def _push(self, time: float, kind: int, part: int, exchange: Exchange | None = None) -> None:
        heapq.heappush(self._heap, (time, kind, self._number, part, exchange))
        self._number += 1

    def _begin(self, number: int) -> None:
        part, machine = self.parts[number], self.machines[number]
        for exchange in self._inbox[number]:
            part.deliver(exchange)
        self._inbox[number].clear()
        if missing := part.waits_for():
            machine.change(self.seconds, waits_for=missing[0])
            return
        machine.change(self.seconds, computes=True)
        compute, name, factor = self.hosts[number].compute, self.hosts[number].name, 1.0
        if compute.spread:
            factor = _log_normal(self._seed_of(name, "step"), part.now, compute.spread)
        if compute.stragglers is not None:
            sampled = uniform(self._seed_of(name, "straggler"), part.now, 1).item()
            factor *= compute.stragglers.factor if sampled < compute.stragglers.share else 1.0
        self._push(self.seconds + self.step_seconds[number] * factor, _END, number)

    def _end(self, number: int, *, watch: Watch) -> None:
        part = self.parts[number]
        part.step(watch=watch)
        self.machines[number].change(self.seconds)
        for neighbour in part.neighbours:
            self._send(number, neighbour, part.collect(neighbour))
        self._push(self.seconds, _BEGIN, number)

    def _send(self, sender: int, receiver: int, exchange: Exchange) -> None:
        link, machine = self.profile.link(sender, receiver), self.machines[sender]
        ends, count = (self.hosts[sender].name, self.hosts[receiver].name), exchange.end - 1
        free = max(self.seconds, self._free_at.get((sender, receiver), 0.0)) + link.transfer(exchange.nbytes)
        self._free_at[sender, receiver] = free
        machine.metrics.calls += 1
        machine.metrics.bytes_sent += exchange.nbytes
        if link.loss and uniform(self._seed_of(*ends, "loss"), count, 1).item() < link.loss:
            machine.calls_lost += 1
            return
        latency = link.latency
        if link.jitter:
            latency *= _log_normal(self._seed_of(*ends, "latency"), count, link.jitter)
        self._push(free + latency, _ARRIVAL, receiver, exchange)

    def _arrive(self, receiver: int, exchange: Exchange) -> None:
        machine = self.machines[receiver]
        machine.metrics.bytes_received += exchange.nbytes
        self._inbox[receiver].append(exchange)
        if machine.waits_for is not None:
            machine.change(self.seconds)
            self._push(self.seconds, _BEGIN, receiver)

    def statistics(self) -> list[PartMetrics]:
        for machine in self.machines:
            machine.change(self.seconds, computes=machine.computes, waits_for=machine.waits_for)
        return [
            replace(machine.metrics, steps_taken=part.now, seconds=self.seconds)
            for part, machine in zip(self.parts, self.machines, strict=True)
        ]


def _log_normal(seed: int, count: int, deviation: float) -> float:
    """Return exp(deviation z - deviation^2 / 2) with z standard normal: a factor of mean 1."""
    return math.exp(deviation * normal(seed, count, 1).item() - deviation**2 / 2)
