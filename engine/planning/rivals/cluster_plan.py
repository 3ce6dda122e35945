"""Time to a target of every rival on a cluster, before anything runs there: the plan of `antiphon plan`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from antiphon.engine.build.builder import build_to_look
from antiphon.engine.core.system import System
from antiphon.engine.parts.placement import (
    Placement,
    check_divisible,
    check_placement,
    partition,
    units_of,
)
from antiphon.engine.planning.rivals.asynchronous_pipeline import asynchronous_pipeline, depths, stages_of
from antiphon.engine.planning.rivals.best_placements import BestPlacement, best_placements
from antiphon.engine.planning.rivals.estimates import (
    FORMULA,
    MEASURED,
    SIMULATED,
    Estimate,
    Source,
    compare_seconds,
)
from antiphon.engine.planning.rivals.free_parts import simulate
from antiphon.engine.planning.rivals.learning_rules import DECOUPLED, DELAYED, LOCAL, LOCKED, with_rule
from antiphon.engine.planning.rivals.lockstep import delays, lockstep, part_seconds
from antiphon.engine.planning.rivals.measured_speed import measured_speed
from antiphon.engine.planning.rivals.placed import MeasuredSpeed, PlacedWorkload
from antiphon.engine.planning.rivals.step_times import (
    StepTime,
    data_parallel,
    model_parallel,
    one_machine,
    pipeline,
)
from antiphon.engine.planning.rivals.target import Measured, Target, measure_steps, target_of
from antiphon.engine.planning.rivals.workload import Workload
from antiphon.engine.simulation import Simulation
from antiphon.engine.virtual.profile import ClusterProfile
from antiphon.envs.registry import describe
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Scenario

__all__ = ["RIVALS", "ClusterPlan", "plan_on_cluster"]

ONE_MACHINE = "one machine"
MODEL_PARALLEL = "locked"
PIPELINE = "1F1B pipeline"
DATA_PARALLEL = "data parallel"
ASYNCHRONOUS = "async pipeline"
RIVALS = (ONE_MACHINE, MODEL_PARALLEL, PIPELINE, DATA_PARALLEL, ASYNCHRONOUS, DELAYED, DECOUPLED, LOCAL)
_MOST_PARTS = 16
"""Unless asked for: each part is simulated with all that it computes."""
_LEAST = 400
"""Minibatches of an asynchronous pipeline that are simulated at least."""


@dataclass(frozen=True)
class ClusterPlan:
    """What a scenario takes on a cluster, by rival."""

    scenario: str
    cluster: str
    about: str
    """What the profile stands for."""
    target: Target
    seeds: int
    limit: int
    """Steps of a run at most."""
    machines: tuple[str, ...]
    """Names of the machines, by part."""
    placement: dict[str, int]
    """The part of each agent; part i is on machine i."""
    estimates: tuple[Estimate, ...]
    best: tuple[BestPlacement, ...]
    """Where else, by rival."""

    @property
    def verdict(self) -> str:
        """Whether decoupling pays, and against whom."""
        seconds = {estimate.rival: estimate.seconds for estimate in self.estimates}
        return compare_seconds(self.cluster, seconds.pop(DECOUPLED), seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "scenario": self.scenario,
            "cluster": self.cluster,
            "about": self.about,
            "target": asdict(self.target),
            "seeds": self.seeds,
            "limit": self.limit,
            "machines": list(self.machines),
            "placement": self.placement,
            "rivals": [estimate.as_dict() for estimate in self.estimates],
            "best_placements": [asdict(one) | {"source": FORMULA} for one in self.best],
            "verdict": self.verdict,
        }


def plan_on_cluster(
    scenario: Scenario,
    profile: ClusterProfile,
    *,
    target: float | None = None,
    seeds: int = 2,
    steps: int | None = None,
    parts: int | None = None,
    placement: Placement | None = None,
    watch: Callable[[str], None] | None = None,
) -> ClusterPlan:
    """Return the time to a target of every rival on the first machines of a cluster.

    Steps to the target are measured by training the scenario here under each learning rule.

    Args:
        scenario: The scenario; the coupling of its message channels is replaced.
        profile: The cluster.
        target: The readouts' score on the test split, of accuracy in percent (default 95).
        seeds: Runs of each learning rule.
        steps: Of a run at most; None: the scenario's.
        parts: How many parts the agents are placed in; None: as many as there are machines or agents, 16 at
            most.
        placement: The part of each agent; None: of equal work and little traffic.
        watch: Called with a line before each run.

    Raises:
        ScenarioError: The scenario cannot be cut or built; the line names the place.
        DataError: Its data are missing or broken.
    """
    limit = steps or scenario.training.steps
    planner = _Planner(scenario, profile, target, range(seeds), limit, parts, placement, watch)
    return ClusterPlan(
        scenario=scenario.scenario,
        cluster=profile.cluster,
        about=profile.about,
        target=planner.target,
        seeds=seeds,
        limit=planner.limit,
        machines=tuple(profile.machine(part).name for part in range(planner.parts)),
        placement=planner.placement,
        estimates=tuple(planner.estimate(rival) for rival in RIVALS),
        best=planner.best_placements(),
    )


class _Planner:
    """Works out the estimates; runs with the same learning are measured once."""

    def __init__(
        self,
        scenario: Scenario,
        profile: ClusterProfile,
        target: float | None,
        seeds: Sequence[int],
        limit: int,
        parts: int | None,
        placement: Placement | None,
        watch: Callable[[str], None] | None,
    ) -> None:
        self.scenario, self.profile, self.seeds, self.limit = scenario, profile, seeds, limit
        self.watch = watch
        self._env = describe(scenario.env)
        self.placement = self._placement(parts, placement)
        self.parts = max(self.placement.values()) + 1
        with closing(Simulation(self.locked)) as simulation:
            self.target = target_of(self.locked, simulation, target)
            self.target.score(simulation.evaluate())  # what has no test split is refused now
        self._measured: dict[Any, Measured] = {}

    def _placement(self, parts: int | None, given: Placement | None) -> dict[str, int]:
        """Return the part of each agent, checked; part i is on machine i."""
        system = self.system(DECOUPLED, 1)
        if given is not None:
            check_placement(system, given)
            check_divisible(system, self.scenario)
        placed = None if given is None else max(given.values()) + 1
        if parts is not None and placed is not None and parts != placed:
            raise ScenarioError(f"place: has {placed} parts, not {parts}; leave one of the two out")
        count = placed or parts or min(len(units_of(system)), self.profile.size, _MOST_PARTS)
        if count > self.profile.size:
            raise ScenarioError(f"parts: {count}; {self.profile.cluster} has {self.profile.size} machines")
        if count < 2:
            raise ScenarioError("parts: a plan needs agents on two machines at least; there is one part")
        if given is not None:
            return dict(given)
        return partition(system, with_rule(self.scenario, DECOUPLED, 1), count)

    # --- the scenario under a rule -------------------------------------------------------------------------

    def system(self, rule: str, delay: int) -> System:
        """Return the system of the scenario under a learning rule."""
        return build_to_look(with_rule(self.scenario, rule, delay), self._env)

    @cached_property
    def locked(self) -> Scenario:
        """The scenario with true gradients of the present step."""
        return with_rule(self.scenario, LOCKED)

    @cached_property
    def placed(self) -> PlacedWorkload:
        """The locked scenario on the machines."""
        return PlacedWorkload(Workload.of(self.locked), self.placement, self.profile, self.speed)

    @cached_property
    def speed(self) -> MeasuredSpeed | None:
        """The speed of this machine, where the profile's machines are timed here."""
        if not any(self.profile.machine(part).compute.measure for part in range(self.parts)):
            return None
        self._note("timing a step")
        return measured_speed(self.locked)

    def _note(self, line: str) -> None:
        if self.watch is not None:
            self.watch(line)

    def steps(
        self,
        rule: str,
        delay: int = 0,
        staleness: Mapping[str, Sequence[int]] | None = None,
        limit: float = math.inf,
    ) -> Measured:
        """Return the steps to the target under a learning rule; where it takes more than `limit`, it is not reached."""
        limit = min(self.limit, limit)
        key = rule, delay, limit, None if staleness is None else tuple(staleness.items())
        if key not in self._measured:
            words = f"{rule}, delay {delay}" if delay else rule
            words += "" if staleness is None else f", up to {max(map(max, staleness.values()))} updates old"
            self._note(f"training: {words}")
            scenario = with_rule(self.scenario, rule, delay)
            window = self.placed.workload.window
            self._measured[key] = measure_steps(
                scenario, self.target, self.seeds, limit, staleness=staleness, window=window
            )
        return self._measured[key]

    # --- estimates -----------------------------------------------------------------------------------------

    def estimate(self, rival: str) -> Estimate:
        """Return the estimate of a rival; one that does not apply has the reason."""
        try:
            if rival == ASYNCHRONOUS:
                return self._asynchronous()
            if rival in (DELAYED, DECOUPLED, LOCAL):
                return self._parts(rival)
            return self._timed(rival, "the scenario locked", self._waiting(rival), self.steps(LOCKED))
        except ScenarioError as error:
            return Estimate(rival, "", failure=str(error))

    def best_placements(self) -> tuple[BestPlacement, ...]:
        """Return the best placements on as many machines at most."""
        scenario = with_rule(self.scenario, DECOUPLED, 1)
        workload, system = self.placed.workload, self.system(DECOUPLED, 1)
        return best_placements(system, scenario, workload, self.profile, self.parts, self.speed)

    def _waiting(self, rival: str) -> StepTime:
        """Return the step time of a rival that waits for everything."""
        placed = self.placed
        if rival == ONE_MACHINE:
            times = (one_machine(placed.workload, i, self.profile, self.speed) for i in range(self.parts))
            return min(times, key=lambda time: time.seconds)
        if rival == MODEL_PARALLEL:
            return model_parallel(placed)
        if rival == PIPELINE:
            return pipeline(placed)
        return data_parallel(placed.workload, range(self.parts), self.profile, self.speed)

    def _timed(
        self, rival: str, learning: str, step: StepTime, steps: Measured, source: Source = FORMULA
    ) -> Estimate:
        found = Estimate(
            rival,
            learning,
            step_seconds=step.seconds,
            step_source=source,
            goodput=step.goodput,
            setting=step.setting,
            scores=steps,
        )
        return self._with_steps(found, steps)

    def _with_steps(self, estimate: Estimate, steps: Measured) -> Estimate:
        if steps.mean is None:
            return replace(estimate, failure=steps.failure(self.target))
        assert estimate.step_seconds is not None
        seconds = steps.mean * estimate.step_seconds
        return replace(estimate, steps=steps.mean, steps_source=MEASURED, seconds=seconds)

    def _asynchronous(self) -> Estimate:
        """Return the estimate of the number of minibatches in flight that is best."""
        stages, ways = stages_of(self.placed)
        window = self.placed.workload.window
        found: list[Estimate] = []
        for depth in depths(self.placed):
            timing = asynchronous_pipeline(stages, ways, depth, minibatches=max(_LEAST, self.limit // window))
            staleness = {name: timing.staleness[part] for name, part in self.placement.items()}
            step = StepTime.of(
                timing.seconds / window, self.placed.computing_seconds(), self.profile, list(stages)
            )
            estimate = Estimate(
                ASYNCHRONOUS,
                "the scenario locked, with the stashed weights of each agent's forward pass",
                step_seconds=step.seconds,
                step_source=SIMULATED,
                goodput=step.goodput,
                setting=f"{depth} in flight",
            )
            steps = self.steps(LOCKED, staleness=staleness, limit=_beaten_after(found, step.seconds))
            estimate = self._with_steps(replace(estimate, scores=steps), steps)
            if estimate.steps is not None:
                # with what fills the pipeline, and failures
                seconds = timing.seconds_to(math.ceil(estimate.steps / window))
                estimate = replace(estimate, seconds=seconds * step.seconds * window / timing.seconds)
            found.append(estimate)
        return _best(found)

    def _parts(self, rule: str) -> Estimate:
        """Return the estimate of parts that do not wait for each other, or in lockstep over links of the best delay."""
        found: list[Estimate] = []
        for delay in delays(self.system(rule, 1), self.placement, self.profile, self.speed):
            step = lockstep(self.system(rule, delay), self.placement, self.profile, self.speed)
            steps = self.steps(rule, delay, limit=_beaten_after(found, step.seconds))
            learning = f"the scenario {rule}, links of delay {delay}"
            step = replace(step, setting=f"lockstep, {step.setting}")
            found.append(self._timed(rule, learning, step, steps, SIMULATED))
        free = self._free(rule, _best(found))
        return _best(found if free is None else [*found, free])

    def _free(self, rule: str, quickest: Estimate) -> Estimate | None:
        """Return the estimate of parts that do not wait, while they may be quicker than another; None: they cannot run it."""
        system = self.system(rule, 1)
        seconds = part_seconds(system, self.placement, self.profile, self.speed)
        limit = min(self.limit, _beaten_after([quickest], min(seconds.values())))
        self._note(f"simulating: {rule}")
        scenario = with_rule(self.scenario, rule, 1)
        try:
            found = simulate(
                scenario, self.target, self.profile, self.placement, list(seconds.values()), self.seeds, limit
            )
        except (ScenarioError, RunError):  # RunError: every part waits for another one
            return None
        estimate = Estimate(
            rule,
            f"the scenario {rule}, in the order of simulated events",
            step_seconds=found.step_seconds,
            step_source=SIMULATED,
            goodput=found.goodput,
            setting="free",
            scores=found.steps,
        )
        if found.steps.mean is None:
            return replace(estimate, failure=found.steps.failure(self.target))
        time = statistics.fmean(found.seconds)
        return replace(estimate, steps=found.steps.mean, steps_source=SIMULATED, seconds=time)


def _best(estimates: Sequence[Estimate]) -> Estimate:
    """Return the quickest to the target; of those that never reach it, the first."""
    return min(estimates, key=lambda one: math.inf if one.seconds is None else one.seconds)


def _beaten_after(estimates: Sequence[Estimate], step_seconds: float) -> float:
    """Return the steps after which a run of such steps has taken longer than the quickest estimate."""
    quickest = min((one.seconds for one in estimates if one.seconds is not None), default=math.inf)
    return quickest / step_seconds
