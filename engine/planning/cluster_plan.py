"""Time to a target on a cluster, before anything runs there: a scenario's variants in virtual time, beside two closed formulas.

Each variant is trained here, in the order of events that the cluster's profile implies (`VirtualSimulation`). The formulas take
the n steps that the locked variant needs:

    one machine      n c(1) s(1)
    data parallel    n min over R >= 2 of (c(R) s(R) + a(R) / w)
    with             a(R) = min(2 (R - 1) (l + p / (R b)), l + (R - 1) p / b)

R is the number of copies that share the batch. c(R) are the seconds in which a machine computes its share of a step, `step +
flop x FLOP / R`, or timed here (`measure`); s(R) is the mean of the slowest of R machines at a step, by stragglers. a(R) are the
seconds of adding up gradients of p bytes, around a ring (Patarasu and Yuan 2009) or each copy to all others, over the slowest
link of latency l and bandwidth b. w is the number of steps between two updates. The one machine is the fastest. Spread, jitter,
losses and failures are left out, which favours the formulas.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.base.problems import DocumentError
from antiphon.engine.build.builder import build_to_look
from antiphon.engine.parts.placement import agent_costs, bonds, units_of
from antiphon.engine.runs.python_template import PythonTemplate
from antiphon.engine.virtual.profile import ClusterProfile
from antiphon.engine.virtual.simulation import VirtualSimulation
from antiphon.envs.registry import describe
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.training import less_is_better

VARIANTS = ("locked", "delayed", "decoupled", "local", "detached")
"""Variants that a plan trains, as far as the scenario has them."""
_GROWTH = 1.05
"""From one evaluation to the next: steps to the target are found at most a twentieth too late."""


@dataclass(frozen=True)
class Target:
    """A score of the readouts on the test split."""

    metric: str
    value: float
    """In the metric's own unit: of accuracy, a fraction."""

    def reached(self, score: float) -> bool:
        """Whether a score is as good."""
        return score <= self.value if less_is_better(self.metric) else score >= self.value

    def best(self, scores: Sequence[float]) -> float:
        """Return the best of some scores; NaN where none is a number."""
        numbers = [score for score in scores if not math.isnan(score)]
        return (min if less_is_better(self.metric) else max)(numbers, default=math.nan)

    def in_words(self, value: float) -> str:
        """Format a score."""
        return f"{100 * value:.4g} %" if self.metric == "accuracy" else f"{value:.4g}"

    def __str__(self) -> str:
        return f"{self.metric} {self.in_words(self.value)}"


@dataclass(frozen=True)
class SeedRun:
    """One variant from one seed."""

    steps: int
    seconds: float
    """Simulated."""
    reached: bool
    best: float
    """The best score; NaN: no score was a number."""
    ended: str = ""
    """Why it ended before the target and before its last step; "": it did not."""


@dataclass(frozen=True)
class PlanRow:
    """A variant in virtual time, or a formula."""

    name: str
    machines: int = 0
    steps: tuple[float, float] | None = None
    """To the target: mean and standard deviation over the seeds that reach it; None: none does."""
    seconds: tuple[float, float] | None = None
    note: str = ""
    runs: tuple[SeedRun, ...] = ()
    """By seed; none of a formula."""


@dataclass(frozen=True)
class ClusterPlan:
    """The time that a scenario's variants take to a target on a cluster."""

    scenario: str
    target: str
    seeds: int
    variants: tuple[PlanRow, ...]
    formulas: tuple[PlanRow, ...]


def variants_of(
    template: Template | PythonTemplate, variant: str | None, values: Mapping[str, Any]
) -> dict[str, Scenario]:
    """Return the scenarios that a plan trains, by variant: those of `VARIANTS` that the template has, or the one that is given
    beside the locked one, whose steps the formulas need; without any of them, the scenario itself as `default`.

    Raises:
        ScenarioError: There is no such variant, or its values are not accepted.
    """
    names = [name for name in VARIANTS if name in template.variants]
    if variant is not None:
        names = list(dict.fromkeys([*names[: names[:1] == ["locked"]], variant]))
    return {name: template.resolve(name, values) for name in names} or {
        "default": template.resolve(None, values)
    }


def _cuttable(scenario: Scenario) -> Scenario:
    """Return a scenario whose agents can be apart: delay 1 on the messages that are read at the step they are sent, their readers
    aligned to them.

    Locked messages stay as they are, and so does all of a scenario whose readers cannot be aligned.
    """
    prompt = {
        c.name for c in scenario.channels if not c.state and c.link.delay == 0 and c.coupling != "locked"
    }
    readers = {channel.receiver for channel in scenario.channels if channel.name in prompt}
    fields = {name: getattr(scenario, name) for name in type(scenario).model_fields}
    fields["agents"] = {
        name: spec.model_copy(update={"align": spec.align or name in readers})
        for name, spec in scenario.agents.items()
    }
    fields["channels"] = [
        c.model_copy(update={"link": c.link.model_copy(update={"ways": 1})}) if c.name in prompt else c
        for c in scenario.channels
    ]
    try:
        return Scenario(**fields) if prompt else scenario
    except ScenarioError:
        return scenario


def plan_on_cluster(
    scenarios: Mapping[str, Scenario],
    profile: ClusterProfile,
    *,
    target: float | None = None,
    seeds: int = 2,
    steps: int | None = None,
    parts: int = 16,
    budget: float = math.inf,
    watch: Callable[[str], None] = lambda line: None,
) -> ClusterPlan:
    """Train variants in virtual time until the readouts reach a target, and return the time that each takes on a cluster.

    Args:
        scenarios: By variant (`variants_of`).
        profile: The cluster; part i is on machine i.
        target: Score on the test split; of accuracy in percent, 95 unless given.
        seeds: Runs of each variant; one that misses the target is its last.
        steps: Of a run at most; None: the scenario's.
        parts: Machines at most; each is simulated with all that it computes.
        budget: Seconds of wall clock after which training ends; each run has an equal share of what is left.
        watch: Called with a line of progress at each evaluation.

    Raises:
        ScenarioError: The scenario cannot be run in virtual time, or the target cannot be.
        DataError: The scenario's data are missing or broken.
    """
    first, deadline = next(iter(scenarios.values())), time.monotonic() + budget
    goal, limit = _target_of(first, target), first.training.steps if steps is None else steps
    variants = [_Variant.of(name, one, profile, parts) for name, one in scenarios.items()]
    left = len(variants) * seeds
    for seed in range(seeds):
        for variant in variants:
            now = time.monotonic()
            if now < deadline and all(run.reached for run in variant.runs):
                variant.train(seed, profile, goal, limit, now + (deadline - now) / left, watch)
            left -= 1
    rows = {variant.name: variant.row(goal, seeds) for variant in variants}
    formulas = (
        row
        for variant in variants
        if variant.name == "locked" and variant.step_seconds
        for row in _formulas(variant.scenario, rows["locked"], variant.step_seconds[0], profile)
    )
    return ClusterPlan(first.scenario, str(goal), seeds, tuple(rows.values()), tuple(formulas))


def _target_of(scenario: Scenario, value: float | None) -> Target:
    """Return the target of a scenario's readouts; ScenarioError: they have several metrics, or the value cannot be."""
    goals = build_to_look(scenario, describe(scenario.env)).goals()
    metrics = {
        metric for name in scenario.readouts if name in goals for metric in goals[name].objective.metrics
    }
    if len(metrics) != 1:
        found = ", ".join(sorted(metrics)) or "none"
        raise ScenarioError(f"--target: the readouts have no common metric ({found}); name one readout")
    (metric,) = metrics
    if metric != "accuracy":
        if value is None:
            raise ScenarioError(f"--target: the readouts measure {metric}; give the value to be reached")
        return Target(metric, value)
    percent = 95.0 if value is None else value
    if not 1 < percent <= 100:
        raise ScenarioError(f"--target: {percent:g}; accuracy is in percent, for example 95")
    return Target(metric, percent / 100)


@dataclass
class _Variant:
    """A variant that is trained."""

    name: str
    scenario: Scenario
    parts: int
    note: str = ""
    """Why all agents are on one machine, or learn badly apart."""
    step_seconds: list[float] | None = None
    runs: list[SeedRun] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, scenario: Scenario, profile: ClusterProfile, most: int) -> _Variant:
        """Return a variant, divided over so many machines at most."""
        scenario = _cuttable(scenario)
        system = build_to_look(scenario, describe(scenario.env))
        if not system.description.endless:
            return cls(name, scenario, 1, "its episodes end")
        parts = min(len(units_of(system)), profile.size, most)
        bond = next(bonds(system), None) if parts == 1 else None
        return cls(name, scenario, parts, "" if bond is None else str(DocumentError(bond.path, bond.reason)))

    def train(
        self,
        seed: int,
        profile: ClusterProfile,
        target: Target,
        limit: int,
        deadline: float,
        watch: Callable[[str], None],
    ) -> None:
        """Train it from a seed until it reaches the target, or is out of steps or time."""
        how: dict[str, Any] = {"seed": seed, "step_seconds": self.step_seconds}
        with VirtualSimulation(self.scenario, profile, self.parts, **how) as simulation:
            self.step_seconds = simulation.cluster.step_seconds
            if simulation.warnings:
                self.note = "its readers are not aligned, and get messages of other examples"
            reached, ended, scores = False, "", list[float]()
            while not reached and not ended and simulation.now < limit:
                look = min(limit, max(simulation.now + 1, math.ceil(_GROWTH * simulation.now)))
                try:
                    while simulation.now < look and time.monotonic() < deadline:
                        simulation.step()
                except (DivergenceError, RunError) as error:  # RunError: every part waits for another one
                    ended = f": {error}"
                    break
                ended = "" if simulation.now == look else ", out of time (--budget)"
                scores.append(simulation.evaluate().score(target.metric))
                reached = target.reached(scores[-1])
                watch(f"{self.name}, seed {seed}, step {simulation.now:,}: {target.in_words(scores[-1])}")
            self.runs.append(SeedRun(simulation.now, simulation.seconds, reached, target.best(scores), ended))

    def row(self, target: Target, seeds: int) -> PlanRow:
        """Return its row of the table."""
        reached = [run for run in self.runs if run.reached]
        steps, seconds = (_spread([getattr(run, of) for run in reached]) for of in ("steps", "seconds"))
        notes = [self.note] if self.note else []
        if 0 < len(reached) < seeds:
            notes.append(f"{len(reached)} of {seeds} seeds")
        if self.runs and not self.runs[-1].reached:  # the last of its runs
            run = self.runs[-1]
            best = f"best {target.in_words(run.best)}{run.ended}"
            notes.append(f"not reached in {run.steps:,} steps ({best})")
        elif len(self.runs) < seeds:
            notes.append("out of time (--budget)")
        return PlanRow(self.name, self.parts, steps, seconds, "; ".join(notes), tuple(self.runs))


# --- formulas --------------------------------------------------------------------------------------------


def _formulas(
    scenario: Scenario, locked: PlanRow, timed: float, profile: ClusterProfile
) -> Iterator[PlanRow]:
    """Yield the rows of one machine and of data parallel training; the module's docstring has the formulas.

    Args:
        scenario: The locked one.
        locked: Its row.
        timed: Seconds of its step on machine 0.
        profile: The cluster.
    """
    system, batch = build_to_look(scenario, describe(scenario.env)), scenario.training.batch
    flop = sum(agent_costs(system).values())

    def compute(copies: int, groups: int) -> list[float]:
        """Return c(R) s(R), by group of machines."""
        times = []
        for one in (profile.machine(number).compute for number in range(groups)):
            if not one.measure:
                seconds = one.seconds(flop / copies)
            elif copies == 1:
                seconds = timed
            else:
                with VirtualSimulation(scenario.with_training(batch=batch // copies), profile, 1) as share:
                    (seconds,) = share.cluster.step_seconds
            times.append(seconds * one.slowest(copies))
        return times

    trainable = {p for agent in system.agents.values() for p in agent.learner.trainable}
    nbytes = system.dtype.itemsize * sum(p.numel() for p in trainable)
    window = max(group.windows.steps() for group in system.groups)
    groups = len(profile.machines)
    seconds, copies = {1: min(compute(1, groups))}, 2
    while copies <= min(profile.size, batch):
        ends = combinations(range(min(copies, 2 * groups)), 2)  # two machines of each group
        links = {profile.link(*pair) for pair in ends}
        ring = max(2 * (copies - 1) * (link.latency + link.transfer(nbytes / copies)) for link in links)
        direct = max(link.latency + link.transfer((copies - 1) * nbytes) for link in links)
        seconds[copies] = max(compute(copies, min(groups, copies))) + min(ring, direct) / window
        copies *= 2
    best = min([count for count in seconds if count > 1], key=lambda count: seconds[count], default=None)
    for name, count in ("one machine", 1), ("data parallel", best):
        if count is None:
            yield PlanRow(name, note="needs two machines, and a batch of 2")
            continue
        each, steps = seconds[count], locked.steps
        note = f"{1e3 * each:.3g} ms a step"
        if steps is None:
            yield PlanRow(name, count, note=f"{note}; locked has not reached the target")
        else:
            yield PlanRow(name, count, steps, (steps[0] * each, steps[1] * each), note)


def _spread(values: Sequence[float]) -> tuple[float, float] | None:
    """Return mean and standard deviation; None of no values."""
    if not values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
