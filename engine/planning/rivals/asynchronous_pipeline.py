"""Timing of an asynchronous pipeline with stashed weights (PipeDream, Narayanan et al. 2019), by a small event simulation.

Every machine is a stage. A minibatch goes forward through the stages and back; a stage prefers backward passes, updates
its weights after each, and never waits for the end of a pipeline flush. A minibatch's backward pass uses the weights of its
forward pass. How many minibatches are under way decides both the rate and how many updates lie between the two passes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from antiphon.engine.planning.rivals.placed import PlacedWorkload
from antiphon.engine.planning.rivals.sampled_times import SampledTimes
from antiphon.engine.virtual.profile import ComputeSpec, LinkSpec
from antiphon.errors import ScenarioError

__all__ = ["PipelineTiming", "Stage", "Way", "asynchronous_pipeline", "depths", "ladder", "stages_of"]

_MINIBATCHES = 400
"""That the rate is measured over, once as many have warmed the pipeline up as are under way."""
_RATIO = 3
"""From one number of minibatches in flight that is tried to the next."""


@dataclass(frozen=True)
class Stage:
    """A machine of the pipeline: seconds of its passes for a minibatch, without chance."""

    forward: float
    backward: float
    compute: ComputeSpec
    """What stretches them by chance."""


@dataclass(frozen=True)
class Way:
    """Messages from a stage to a later one, and their gradients back."""

    sender: int
    receiver: int
    nbytes: float
    """Of a minibatch, each way."""
    link: LinkSpec


@dataclass(frozen=True)
class PipelineTiming:
    """What the simulation of a pipeline gave."""

    seconds: float
    """Between two minibatches, the mean."""
    staleness: Mapping[int, tuple[int, ...]]
    """By stage and minibatch: updates of the stage between the minibatch's forward pass and its own update."""
    in_flight: int
    """Minibatches under way at most."""
    ends: tuple[float, ...]
    """Seconds from the start until every stage has updated its weights once, twice, …"""

    def seconds_to(self, updates: int) -> float:
        """Return the seconds from the start until every stage has updated its weights so often."""
        beyond = max(0, updates - len(self.ends))
        return self.ends[updates - beyond - 1] + beyond * self.seconds if updates > 0 else 0.0


@dataclass
class _State:
    """A stage while it runs."""

    arrived: dict[int, int] = field(default_factory=dict)
    """By minibatch: how many messages of its forward pass have come."""
    returned: dict[int, int] = field(default_factory=dict)
    """The same of gradients."""
    forward: list[int] = field(default_factory=list)
    backward: list[int] = field(default_factory=list)
    """Heaps of the minibatches that wait for a pass."""
    busy: bool = False
    started: int = 0
    updates: int = 0
    version: dict[int, int] = field(default_factory=dict)
    """By minibatch: the updates that its forward pass has."""
    staleness: list[int] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    """Times of its updates."""


def stages_of(placed: PlacedWorkload) -> tuple[dict[int, Stage], list[Way]]:
    """Return the stages of a placed workload by machine, and the ways between them.

    Raises:
        ScenarioError: Machines send to each other, so that there is no order of stages.
    """
    workload = placed.workload
    ways: dict[tuple[int, int], float] = {}
    for message in workload.messages:
        ends = placed.placement[message.sender], placed.placement[message.receiver]
        if ends[0] != ends[1]:
            sent = workload.window / workload.agents[message.sender].clock.period
            ways[ends] = ways.get(ends, 0.0) + sent * message.nbytes
    graph: nx.DiGraph[int] = nx.DiGraph(list(ways))
    if not nx.is_directed_acyclic_graph(graph):
        names = ", ".join(
            placed.profile.machine(number).name for number in sorted(nx.find_cycle(graph)[0][:2])
        )
        raise ScenarioError(f"its machines send to each other ({names}): no order of stages")
    stages = {}
    for machine in placed.machines:
        own = placed.agents_of[machine]
        flop = sum(cost.flop for cost in own.values())
        ahead = sum(cost.forward / cost.clock.period for cost in own.values())
        share = ahead / flop if flop else 0.5
        busy = placed.busy_seconds(machine)
        compute = placed.profile.machine(machine).compute
        stages[machine] = Stage(busy * share, busy * (1 - share), compute)
    return stages, [Way(*ends, nbytes, placed.profile.link(*ends)) for ends, nbytes in ways.items()]


def depths(placed: PlacedWorkload) -> tuple[int, ...]:
    """Return numbers of minibatches in flight to be tried: from as many as stages to as many as keep all busy."""
    stages, _ = stages_of(placed)
    least = max(len(stages), 1)
    busiest = max(stage.forward + stage.backward for stage in stages.values())
    around = placed.window_seconds()
    most = max(least, math.ceil(around / busiest) if busiest else least)
    return ladder(least, most)


def ladder(least: int, most: int) -> tuple[int, ...]:
    """Return whole numbers from one to another, each about three times the one before."""
    rungs = max(1, round(math.log(most / least, _RATIO))) if most > least else 0
    ratio = (most / least) ** (1 / rungs) if rungs else 1.0
    return tuple(sorted({least, *(round(least * ratio**rung) for rung in range(1, rungs + 1))}))


def asynchronous_pipeline(
    stages: Mapping[int, Stage],
    ways: Sequence[Way],
    in_flight: int,
    *,
    seed: int = 0,
    minibatches: int = _MINIBATCHES,
) -> PipelineTiming:
    """Simulate a pipeline's events and return its rate and staleness.

    Args:
        stages: By number.
        ways: Between stages, without a cycle.
        in_flight: Minibatches under way at most, of each stage that receives nothing.
        seed: Of the chance in step times and links.
        minibatches: How many are simulated at least, beside those that warm it up; the rate is measured over them.
    """
    simulation = _Pipeline(stages, ways, in_flight, SampledTimes(seed))
    warm = 2 * in_flight
    simulation.run(warm + minibatches)
    ends = tuple(map(max, zip(*(state.ends for state in simulation.states.values()), strict=False)))
    seconds = (ends[-1] - ends[warm - 1]) / (len(ends) - warm)
    staleness = {number: tuple(state.staleness) for number, state in simulation.states.items()}
    return PipelineTiming(seconds, staleness, in_flight, ends)


class _Pipeline:
    """One heap of events (time, order, what, stage, minibatch)."""

    def __init__(
        self, stages: Mapping[int, Stage], ways: Sequence[Way], in_flight: int, times: SampledTimes
    ) -> None:
        self.stages, self.in_flight, self.times = stages, in_flight, times
        self.states = {number: _State() for number in stages}
        self.after = {number: [way for way in ways if way.sender == number] for number in stages}
        self.before = {number: [way for way in ways if way.receiver == number] for number in stages}
        self._events: list[tuple[float, int, str, int, int]] = []
        self._count = 0

    def run(self, minibatches: int) -> None:
        """Run until every stage has made so many updates."""
        for number in self.stages:
            self._begin(number, 0.0)
        while any(state.updates < minibatches for state in self.states.values()):
            now, _, what, number, minibatch = heapq.heappop(self._events)
            state = self.states[number]
            if what == "message":
                state.arrived[minibatch] = state.arrived.get(minibatch, 0) + 1
                if state.arrived[minibatch] == len(self.before[number]):
                    del state.arrived[minibatch]
                    heapq.heappush(state.forward, minibatch)
            elif what == "gradient":
                self._return(number, minibatch)
            else:
                state.busy = False
                self._finish(what, number, minibatch, now)
            if not state.busy:
                self._begin(number, now)

    def _return(self, number: int, minibatch: int) -> None:
        """Note a gradient; a stage without successors returns its own."""
        state = self.states[number]
        state.returned[minibatch] = state.returned.get(minibatch, 0) + 1
        if state.returned[minibatch] == max(len(self.after[number]), 1):
            del state.returned[minibatch]
            heapq.heappush(state.backward, minibatch)

    def _finish(self, what: str, number: int, minibatch: int, now: float) -> None:
        state = self.states[number]
        if what == "forward":
            for way in self.after[number]:
                self._send("message", number, way.receiver, way, minibatch, now)
            if not self.after[number]:
                self._return(number, minibatch)
            return
        state.staleness.append(state.updates - state.version.pop(minibatch))
        state.updates += 1
        state.ends.append(now)
        for way in self.before[number]:
            self._send("gradient", number, way.sender, way, minibatch, now)

    def _begin(self, number: int, now: float) -> None:
        """Begin the next pass of a stage that is free, backward passes first."""
        state, stage = self.states[number], self.stages[number]
        if state.backward:
            what, minibatch, seconds = "backward", heapq.heappop(state.backward), stage.backward
        elif self.before[number] and state.forward:
            what, minibatch, seconds = "forward", heapq.heappop(state.forward), stage.forward
        elif not self.before[number] and state.started - state.updates < self.in_flight:
            what, minibatch, seconds = "forward", state.started, stage.forward
        else:
            return
        if what == "forward":
            state.started += 1
            state.version[minibatch] = state.updates
        state.busy = True
        self._push(now + seconds * self.times.factor(stage.compute), what, number, minibatch)

    def _send(self, what: str, sender: int, receiver: int, way: Way, minibatch: int, now: float) -> None:
        self._push(self.times.arrival(sender, receiver, way.link, way.nbytes, now), what, receiver, minibatch)

    def _push(self, time: float, what: str, number: int, minibatch: int) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, what, number, minibatch))
