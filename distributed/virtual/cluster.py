"""Discrete events: parts of a scenario on the machines and links of a cluster profile, in one process.

A machine computes one step after the other. Exchanges that have arrived when a step begins enter it; the exchanges that a step
makes leave when it ends. The order of the events decides what every part learns from, and nothing else does: no clock is read.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal

from antiphon.base.errors import RunError
from antiphon.distributed.parts.exchange import Exchange
from antiphon.distributed.parts.part import Part
from antiphon.distributed.virtual.profile import SECONDS_A_DAY, ClusterProfile
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.nets.random import normal, seed_for, uniform
from antiphon.telemetry.parts.part_metrics import PartMetrics

# Events of one time happen in this order: what a step sends reaches, over a link without latency, the steps that begin then.
_END, _ARRIVAL, _FAILURE, _RETURN, _BEGIN = range(5)

Event = tuple[float, int, int, int, int, Any]
"""Time in seconds, kind, running number, part, incarnation of its machine, and the exchange that arrives."""


Status = Literal["computing", "waiting", "away"]


@dataclass(slots=True)
class MachineState:
    """A machine and the part that it computes; times in simulated seconds, totals since the run began."""

    status: Status = "waiting"
    since: float = 0.0
    """When the status began."""
    waits_for: int | None = None
    """The part whose exchange it waits for."""
    steps_taken: int = 0
    """Steps computed to their end, repeated ones included."""
    computing: float = 0.0
    """Spent on steps computed to their end, and on those that a failure broke off."""
    repeated: float = 0.0
    """The share of `computing` that a failure has undone."""
    unsaved: float = 0.0
    """The share of `computing` that the newest checkpoint does not hold."""
    waiting: dict[str, float] = field(default_factory=dict)
    """By the part whose exchange was missing, as a word: a state on disk has words as keys."""
    away: float = 0.0
    failed_at: float = 0.0
    """When it failed the last time."""
    calls: int = 0
    """Exchanges sent."""
    calls_lost: int = 0
    """Exchanges sent that did not arrive: lost on the way, or the receiver was away."""
    bytes_sent: int = 0
    bytes_received: int = 0
    incarnation: int = 0
    """Failures so far."""

    def change(self, status: Status, now: float, waits_for: int | None = None) -> None:
        """End the present status at `now`, add its time to the totals, and begin another one."""
        self.account(now)
        self.status, self.waits_for = status, waits_for

    def end_step(self, now: float) -> None:
        """Count the step that has been computed to its end at `now`, and wait."""
        self.steps_taken += 1
        self.change("waiting", now)

    def send(self, count: int) -> None:
        """Count a call of so many bytes."""
        self.calls += 1
        self.bytes_sent += count

    def receive(self, count: int) -> None:
        """Count so many bytes that have arrived."""
        self.bytes_received += count

    def lose_call(self) -> None:
        """Count a call that does not arrive."""
        self.calls_lost += 1

    def save(self) -> None:
        """Note that a checkpoint holds all that has been computed."""
        self.unsaved = 0.0

    def fail(self, now: float) -> None:
        """Be away from `now` on; what the newest checkpoint does not hold will be computed again."""
        self.change("away", now)
        self.failed_at = now
        self.repeated += self.unsaved
        self.unsaved = 0.0
        self.incarnation += 1

    def account(self, now: float) -> None:
        """Add the time of the present status up to `now` to the totals."""
        passed, self.since = now - self.since, now
        if self.status == "computing":
            self.computing += passed
            self.unsaved += passed
        elif self.status == "away":
            self.away += passed
        elif self.waits_for is not None and passed:
            key = str(self.waits_for)
            self.waiting[key] = self.waiting.get(key, 0.0) + passed


class VirtualCluster:
    """Parts on the first machines of a cluster.

    Args:
        profile: The cluster; part i runs on machine i.
        parts: Parts that do not wait for exchanges, but for a message where an agent learns from nothing else.
        step_seconds: Seconds of a step of each part without chance, above 0.
        seed: Of chance.

    Attributes:
        seconds: Simulated time.
    """

    def __init__(
        self, profile: ClusterProfile, parts: Sequence[Part], step_seconds: Sequence[float], seed: int
    ) -> None:
        self.profile, self.parts, self.step_seconds = profile, parts, list(step_seconds)
        self.hosts = [profile.machine(number) for number in range(len(parts))]
        self.machines = [MachineState() for _ in parts]
        self.seconds = 0.0
        self._seed_of = cache(lambda *purpose: seed_for(seed, "virtual", *purpose))
        """Seed of chance, by purpose: with the count of what happens it is all that a number depends on, so nothing is kept."""
        self._heap: list[Event] = []
        self._number = 0
        self._inbox: list[list[Exchange]] = [[] for _ in parts]
        self._links: dict[tuple[int, int], list[float]] = {}
        """By sender and receiver: calls so far, and when the link is free again."""
        self._saved: list[dict[str, Any] | None] = [None for _ in parts]
        """The newest checkpoint of each part whose machine can fail."""
        for number, host in enumerate(self.hosts):
            if host.failures is not None:
                self._save(number)
                self._schedule_failure(number)
            self._push(0.0, _BEGIN, number)

    # --- events ------------------------------------------------------------------------------------------

    @property
    def steps_taken(self) -> int:
        """Steps of all parts, repeated ones included."""
        return sum(machine.steps_taken for machine in self.machines)

    def advance(self, *, watch: Watch = False) -> int | None:
        """Take the next event, and return the part whose step has ended with it; None: none has.

        Args:
            watch: Whether, or of which channels, the step keeps predictions, which changes no number.

        Raises:
            RunError: Nothing will ever happen: every part waits for another one.
        """
        if not self._heap:
            waits = ", ".join(f"part {i} for part {m.waits_for}" for i, m in enumerate(self.machines))
            raise RunError(f"virtual: at {self.seconds:g} s every part waits for another one ({waits})")
        self.seconds, kind, _, part, incarnation, exchange = heapq.heappop(self._heap)
        if kind == _ARRIVAL:
            self._arrive(part, exchange)
        elif kind == _FAILURE:
            self._fail(part)
        elif kind == _RETURN:
            self._return(part)
        elif incarnation == self.machines[part].incarnation:  # else the machine has failed since
            if kind == _BEGIN:
                self._begin(part)
            else:
                self._end(part, watch=watch)
                return part
        return None

    def _push(self, time: float, kind: int, part: int, exchange: Exchange | None = None) -> None:
        event = (time, kind, self._number, part, self.machines[part].incarnation, exchange)
        heapq.heappush(self._heap, event)
        self._number += 1

    def _begin(self, number: int) -> None:
        part, machine = self.parts[number], self.machines[number]
        for exchange in self._inbox[number]:
            part.deliver(exchange)
        self._inbox[number].clear()
        if missing := part.waits_for():
            machine.change("waiting", self.seconds, missing[0])
            return
        machine.change("computing", self.seconds)
        # a step that was broken off has a number of its own
        count = machine.steps_taken + machine.incarnation
        compute, name, factor = self.hosts[number].compute, self.hosts[number].name, 1.0
        if compute.spread:
            factor = _log_normal(self._seed_of(name, "step"), count, compute.spread)
        if compute.stragglers is not None:
            sampled = uniform(self._seed_of(name, "straggler"), count, 1).item()
            factor *= compute.stragglers.factor if sampled < compute.stragglers.share else 1.0
        self._push(self.seconds + self.step_seconds[number] * factor, _END, number)

    def _end(self, number: int, *, watch: Watch) -> None:
        part, machine = self.parts[number], self.machines[number]
        part.step(watch=watch)
        machine.end_step(self.seconds)
        for neighbour in part.neighbours:
            self._send(number, neighbour, part.collect(neighbour))
        failures = self.hosts[number].failures
        if failures is not None and part.now % failures.checkpoint == 0:
            self._save(number)
        self._push(self.seconds, _BEGIN, number)

    def _send(self, sender: int, receiver: int, exchange: Exchange) -> None:
        link, machine = self.profile.link(sender, receiver), self.machines[sender]
        calls, free = self._links.get((sender, receiver), [0, 0.0])
        free = max(self.seconds, free) + link.transfer(exchange.nbytes)
        self._links[sender, receiver] = [calls + 1, free]
        machine.send(exchange.nbytes)
        ends, count = (self.hosts[sender].name, self.hosts[receiver].name), int(calls)
        if link.loss and uniform(self._seed_of(*ends, "loss"), count, 1).item() < link.loss:
            machine.lose_call()
            return
        latency = link.latency
        if link.jitter:
            latency *= _log_normal(self._seed_of(*ends, "latency"), count, link.jitter)
        self._push(free + latency, _ARRIVAL, receiver, exchange)

    def _arrive(self, receiver: int, exchange: Exchange) -> None:
        machine = self.machines[receiver]
        if machine.status == "away":
            self.machines[exchange.sender].lose_call()
            return
        machine.receive(exchange.nbytes)
        self._inbox[receiver].append(exchange)
        if machine.waits_for is not None:
            machine.change("waiting", self.seconds)
            self._push(self.seconds, _BEGIN, receiver)

    # --- failures ----------------------------------------------------------------------------------------

    def _schedule_failure(self, number: int) -> None:
        failures = self.hosts[number].failures
        assert failures is not None
        purpose = self._seed_of(self.hosts[number].name, "failure")
        sampled = uniform(purpose, self.machines[number].incarnation, 1).item()
        gap = -math.log1p(-sampled) * SECONDS_A_DAY / failures.per_day  # exponentially distributed
        self._push(self.seconds + gap, _FAILURE, number)

    def _save(self, number: int) -> None:
        self._saved[number] = copy_tree(self.parts[number].own_state())
        self.machines[number].save()

    def _fail(self, number: int) -> None:
        """Drop the step that the machine computes, the exchanges it has not read, and the steps since its checkpoint."""
        machine, failures = self.machines[number], self.hosts[number].failures
        assert failures is not None
        machine.fail(self.seconds)
        self._inbox[number].clear()
        self._push(self.seconds + failures.outage, _RETURN, number)

    def _return(self, number: int) -> None:
        part, machine, saved = self.parts[number], self.machines[number], self._saved[number]
        assert saved is not None
        part.restart(machine.incarnation, copy_tree(saved))
        machine.change("waiting", self.seconds)
        self._schedule_failure(number)
        self._push(self.seconds, _BEGIN, number)

    # --- metrics -----------------------------------------------------------------------------------------

    def account(self) -> None:
        """Bring the totals of all machines up to the present time."""
        for machine in self.machines:
            machine.account(self.seconds)

    @property
    def goodput(self) -> float:
        """Share of the machines' time in which they computed steps that no failure has undone."""
        self.account()
        useful = sum(machine.computing - machine.repeated for machine in self.machines)
        return useful / (len(self.machines) * self.seconds) if self.seconds else 1.0

    def statistics(self) -> list[PartMetrics]:
        """Return the metrics of each part up to the present time; one whose machine is away is not alive."""
        self.account()
        return [
            PartMetrics(
                part=number,
                machine=host.name,
                steps_taken=part.now,
                seconds=self.seconds,
                computing=machine.computing,
                waiting={int(neighbour): seconds for neighbour, seconds in machine.waiting.items()},
                bytes_sent=machine.bytes_sent,
                bytes_received=machine.bytes_received,
                calls=machine.calls,
                staleness=part.behind,
                blocked_on=()
                if machine.waits_for is None or machine.status == "away"
                else (machine.waits_for,),
                incarnation=machine.incarnation,
                alive=machine.status != "away",
                heartbeat_age=self.seconds - machine.failed_at if machine.status == "away" else 0.0,
            )
            for number, (part, host, machine) in enumerate(
                zip(self.parts, self.hosts, self.machines, strict=True)
            )
        ]

    # --- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state: the heap, machines, links, and the parts; without copying a tensor."""
        self.account()
        return {
            "seconds": self.seconds,
            "number": self._number,
            "step_seconds": self.step_seconds,
            "heap": [[*event, exchange and exchange.tree] for *event, exchange in sorted(self._heap)],
            "machines": [asdict(machine) for machine in self.machines],
            "links": [[*pair, *link] for pair, link in self._links.items()],
            "inbox": [[exchange.tree for exchange in exchanges] for exchanges in self._inbox],
            "saved": self._saved,
            "parts": [part.own_state() for part in self.parts],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of the same parts on the same profile; its tensors are used as they are, so hand in copies."""
        self.seconds, self._number = state["seconds"], state["number"]
        self.step_seconds = list(state["step_seconds"])
        self._heap = [(*event, tree and Exchange.of_tree(tree)) for *event, tree in state["heap"]]
        self.machines = [MachineState(**machine) for machine in state["machines"]]
        self._links = {(sender, receiver): [calls, free] for sender, receiver, calls, free in state["links"]}
        self._inbox = [[*map(Exchange.of_tree, trees)] for trees in state["inbox"]]
        self._saved = list(state["saved"])
        for part, machine, state_of_part in zip(self.parts, self.machines, state["parts"], strict=True):
            part.restart(machine.incarnation, state_of_part)


def _log_normal(seed: int, count: int, deviation: float) -> float:
    """Return exp(deviation z - deviation^2 / 2) with z standard normal: a factor of mean 1."""
    return math.exp(deviation * normal(seed, count, 1).item() - deviation**2 / 2)
