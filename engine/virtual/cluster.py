"""Discrete events: parts of a scenario on the machines and links of a cluster profile, in one process.

A machine computes one step after the other. What has arrived when a step begins enters it; what the step gives leaves when it
ends. The order of the events decides what every part learns from, and nothing else does: no clock is read here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from antiphon.engine.state.checkpoint import copy_tree
from antiphon.engine.virtual.chance import Chance
from antiphon.engine.virtual.machines import MachineState
from antiphon.engine.virtual.profile import ClusterProfile, Machine
from antiphon.errors import RunError, ScenarioError
from antiphon.telemetry.parts.part_figures import PartFigures

__all__ = ["FreePart", "VirtualCluster"]


class Sized(Protocol):
    """What one part hands another."""

    @property
    def nbytes(self) -> int:
        """Its size on a link."""


Parcel = TypeVar("Parcel", bound=Sized)


class FreePart(Protocol[Parcel]):
    """A part that does not wait for exchanges, but for a message where its agents learn from nothing else.

    Attributes:
        now: Steps taken.
        incarnation: Which start of the part this is.
    """

    now: int
    incarnation: int

    @property
    def neighbours(self) -> tuple[int, ...]:
        """The parts that it exchanges with."""

    @property
    def behind(self) -> int:
        """Steps by which the oldest of what its neighbours have sent is behind its own step."""

    def waits_for(self) -> tuple[int, ...]:
        """Return the parts without whose messages no step can be taken."""

    def step(self, *, watch: bool = False) -> Any:
        """Take one step; `watch`: whether predictions are kept, which changes no number."""

    def collect(self, neighbour: int) -> Parcel:
        """Return what a neighbour has not been sent yet."""

    def deliver(self, exchange: Parcel) -> None:
        """Take in what a neighbour has sent."""

    def own_state(self) -> dict[str, Any]:
        """Return all of its state, without copying a tensor."""

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Load an `own_state`, whose tensors are used as they are."""


# Events of one time happen in this order: what a step gives reaches, over a link without latency, the steps that begin then.
_END, _ARRIVAL, _FAILURE, _RETURN, _BEGIN = range(5)

Event = tuple[float, int, int, int, int, Any]
"""Time in seconds, kind, running number, part, incarnation of its machine, and what arrives, with its sender."""


class VirtualCluster(Generic[Parcel]):
    """Parts on the first machines of a cluster.

    Args:
        profile: Part i runs on machine i.
        parts: At their first step.
        step_seconds: Of each part, without chance.
        seed: Of chance.
        pack: Makes plain data and tensors of an exchange, for a state,
        unpack: and an exchange of these.

    Attributes:
        seconds: Simulated time.
        machines: One a part.

    Raises:
        ScenarioError: There are more parts than machines, or a step takes no time.
    """

    def __init__(
        self,
        profile: ClusterProfile,
        parts: Sequence[FreePart[Parcel]],
        step_seconds: Sequence[float],
        seed: int,
        pack: Callable[[Parcel], dict[str, Any]],
        unpack: Callable[[dict[str, Any]], Parcel],
    ) -> None:
        if len(parts) > profile.size:
            raise ScenarioError(
                f"{profile.cluster}: {len(parts)} parts on {profile.size} machines; place agents together"
            )
        for number, seconds in enumerate(step_seconds):
            if not seconds > 0:
                name = profile.machine(number).compute
                raise ScenarioError(
                    f"{profile.cluster}: a step of part {number} takes no time at {name.flop:g} s per FLOP; give compute.step"
                )
        self.profile, self.parts, self.step_seconds = profile, parts, list(step_seconds)
        self.hosts: list[Machine] = [profile.machine(number) for number in range(len(parts))]
        self.machines = [MachineState() for _ in parts]
        self.seconds = 0.0
        self._chance = Chance(seed, [host.name for host in self.hosts])
        self._pack, self._unpack = pack, unpack
        self._heap: list[Event] = []
        self._number = 0
        self._inbox: list[list[tuple[int, Parcel]]] = [[] for _ in parts]
        self._links: dict[tuple[int, int], list[float]] = {}
        """By sender and receiver: calls so far, and when the link is free again."""
        self._saved: list[dict[str, Any] | None] = [None for _ in parts]
        for number, host in enumerate(self.hosts):
            if host.failures is not None:
                self._save(number)
                self._schedule_failure(number)
            self._push(0.0, _BEGIN, number)

    # --- events ------------------------------------------------------------------------------------------

    @property
    def steps_taken(self) -> int:
        """Steps of all parts, those that were repeated included."""
        return sum(machine.steps_taken for machine in self.machines)

    def advance(self, *, watch: bool = False) -> int | None:
        """Take the next event, and return the part whose step has ended with it; None: none has.

        Args:
            watch: Of the step.

        Raises:
            RunError: Nothing will ever happen: every part waits for another one.
        """
        if not self._heap:
            waits = ", ".join(f"part {i} for part {m.waits_for}" for i, m in enumerate(self.machines))
            raise RunError(f"virtual: at {self.seconds:g} s every part waits for another one ({waits})")
        self.seconds, kind, _, part, incarnation, what = heapq.heappop(self._heap)
        if kind == _ARRIVAL:
            self._arrive(part, *what)
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

    @property
    def next_event(self) -> float | None:
        """The time of the next event; None: there is none."""
        return self._heap[0][0] if self._heap else None

    def _push(self, time: float, kind: int, part: int, what: Any = None) -> None:
        event = (time, kind, self._number, part, self.machines[part].incarnation, what)
        heapq.heappush(self._heap, event)
        self._number += 1

    def _begin(self, number: int) -> None:
        part, machine = self.parts[number], self.machines[number]
        for _, exchange in self._inbox[number]:
            part.deliver(exchange)
        self._inbox[number].clear()
        if missing := part.waits_for():
            machine.change("waiting", self.seconds, missing[0])
            return
        machine.change("computing", self.seconds)
        begun = (
            machine.steps_taken + machine.incarnation
        )  # a step that was broken off has a number of its own
        factor = self._chance.step_factor(number, begun, self.hosts[number].compute)
        self._push(self.seconds + self.step_seconds[number] * factor, _END, number)

    def _end(self, number: int, *, watch: bool) -> None:
        part, machine = self.parts[number], self.machines[number]
        part.step(watch=watch)
        machine.steps_taken += 1
        machine.change("waiting", self.seconds)
        for neighbour in part.neighbours:
            self._send(number, neighbour, part.collect(neighbour))
        failures = self.hosts[number].failures
        if failures is not None and part.now % failures.checkpoint == 0:
            self._save(number)
        self._push(self.seconds, _BEGIN, number)

    def _send(self, sender: int, receiver: int, exchange: Parcel) -> None:
        link, machine = self.profile.link(sender, receiver), self.machines[sender]
        calls, free = self._links.get((sender, receiver), [0, 0.0])
        size = exchange.nbytes
        free = max(self.seconds, free) + link.transfer(size)
        self._links[sender, receiver] = [calls + 1, free]
        machine.calls += 1
        machine.bytes_sent += size
        if self._chance.lost(sender, receiver, int(calls), link):
            machine.calls_lost += 1
        else:
            arrival = free + self._chance.latency(sender, receiver, int(calls), link)
            self._push(arrival, _ARRIVAL, receiver, (sender, exchange))

    def _arrive(self, receiver: int, sender: int, exchange: Parcel) -> None:
        machine = self.machines[receiver]
        if machine.status == "away":
            self.machines[sender].calls_lost += 1
            return
        machine.bytes_received += exchange.nbytes
        self._inbox[receiver].append((sender, exchange))
        if machine.waits_for is not None:
            machine.change("waiting", self.seconds)
            self._push(self.seconds, _BEGIN, receiver)

    # --- failures ----------------------------------------------------------------------------------------

    def _schedule_failure(self, number: int) -> None:
        failures = self.hosts[number].failures
        assert failures is not None
        gap = self._chance.until_failure(number, self.machines[number].incarnation, failures)
        self._push(self.seconds + gap, _FAILURE, number)

    def _save(self, number: int) -> None:
        self._saved[number] = copy_tree(self.parts[number].own_state())
        self.machines[number].unsaved = 0.0

    def _fail(self, number: int) -> None:
        """Lose what the machine was doing, what it has received and not read, and the steps since its checkpoint."""
        machine, failures = self.machines[number], self.hosts[number].failures
        assert failures is not None
        machine.change("away", self.seconds)
        machine.failed_at = self.seconds
        machine.repeated += machine.unsaved
        machine.unsaved = 0.0
        machine.incarnation += 1
        self._inbox[number].clear()
        self._push(self.seconds + failures.outage, _RETURN, number)

    def _return(self, number: int) -> None:
        part, machine, saved = self.parts[number], self.machines[number], self._saved[number]
        assert saved is not None
        part.load_own_state(copy_tree(saved))
        part.incarnation = machine.incarnation
        machine.change("waiting", self.seconds)
        self._schedule_failure(number)
        self._push(self.seconds, _BEGIN, number)

    # --- figures -----------------------------------------------------------------------------------------

    def account(self) -> None:
        """Bring the totals of all machines up to the present time."""
        for machine in self.machines:
            machine.account(self.seconds)

    @property
    def goodput(self) -> float:
        """Share of the machines' time in which they computed steps that count: that no failure has undone."""
        self.account()
        if not self.seconds:
            return 1.0
        return sum(machine.useful for machine in self.machines) / (len(self.machines) * self.seconds)

    def statistics(self) -> list[PartFigures]:
        """Return the figures of each part up to the present time; one whose machine is away is not alive."""
        self.account()
        return [self._figures_of(number, machine) for number, machine in enumerate(self.machines)]

    def _figures_of(self, number: int, machine: MachineState) -> PartFigures:
        part, alive = self.parts[number], machine.status != "away"
        return PartFigures(
            part=number,
            machine=self.hosts[number].name,
            steps_taken=part.now,
            seconds=self.seconds,
            computing=machine.computing,
            waiting={int(other): seconds for other, seconds in machine.waiting.items()},
            bytes_sent=machine.bytes_sent,
            bytes_received=machine.bytes_received,
            calls=machine.calls,
            staleness=part.behind,
            blocked_on=() if machine.waits_for is None or not alive else (machine.waits_for,),
            incarnation=machine.incarnation,
            alive=alive,
            heartbeat_age=0.0 if alive else self.seconds - machine.failed_at,
        )

    # --- state -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state: the heap, machines, links, and the parts; without copying a tensor."""
        self.account()
        return {
            "seconds": self.seconds,
            "number": self._number,
            "step_seconds": self.step_seconds,
            "heap": [[*event[:5], self._packed(event[5])] for event in sorted(self._heap, key=_order)],
            "machines": [machine.state_dict() for machine in self.machines],
            "links": [[*pair, *found] for pair, found in self._links.items()],
            "inbox": [[self._packed(item) for item in items] for items in self._inbox],
            "saved": self._saved,
            "parts": [part.own_state() for part in self.parts],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of the same parts on the same profile; its tensors are used as they are, so hand in copies."""
        self.seconds, self._number = state["seconds"], state["number"]
        self.step_seconds = list(state["step_seconds"])
        self._heap = [
            (time, kind, number, part, incarnation, self._unpacked(what))
            for time, kind, number, part, incarnation, what in state["heap"]
        ]
        self.machines = [MachineState.of_state(machine) for machine in state["machines"]]
        self._links = {(sender, receiver): [calls, free] for sender, receiver, calls, free in state["links"]}
        self._inbox = [[self._unpacked(item) for item in items] for items in state["inbox"]]
        self._saved = list(state["saved"])
        for number, (part, own) in enumerate(zip(self.parts, state["parts"], strict=True)):
            part.load_own_state(own)
            part.incarnation = self.machines[number].incarnation

    def _packed(self, what: tuple[int, Parcel] | None) -> list[Any] | None:
        return None if what is None else [what[0], self._pack(what[1])]

    def _unpacked(self, what: list[Any] | None) -> Any:
        return None if what is None else (what[0], self._unpack(what[1]))


def _order(event: Event) -> tuple[float, int, int]:
    return event[:3]
