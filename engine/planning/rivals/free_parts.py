"""Time to a target of parts that do not wait, simulated: agents learn the updates that the order of events implies."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from antiphon.engine.parts.placement import Placement
from antiphon.engine.planning.rivals.target import Measured, Target, until
from antiphon.engine.virtual.profile import ClusterProfile
from antiphon.engine.virtual.simulation import VirtualSimulation
from antiphon.scenarios import Scenario

__all__ = ["SimulatedTime", "simulate"]


@dataclass(frozen=True)
class SimulatedTime:
    """Runs in virtual time to a target, or to their limit."""

    steps: Measured
    """The mean over parts of the steps taken, by seed."""
    seconds: tuple[float, ...]
    """Simulated, by seed."""
    goodput: float
    """Share of the machines' time in which they computed steps that count, the mean over seeds."""

    @property
    def step_seconds(self) -> float:
        """Seconds of a step of each part, the mean over seeds."""
        return statistics.fmean(
            seconds / score.last for seconds, score in zip(self.seconds, self.steps.seeds, strict=True)
        )


def simulate(
    scenario: Scenario,
    target: Target,
    profile: ClusterProfile,
    placement: Placement,
    step_seconds: Sequence[float],
    seeds: Sequence[int],
    limit: float,
) -> SimulatedTime:
    """Train a scenario in virtual time from each seed until the target is reached; the first seed that misses it is the last.

    Args:
        scenario: Under a learning rule.
        target: The target.
        profile: The cluster; part i is on machine i.
        placement: The part of each agent.
        step_seconds: Of each part, without chance.
        seeds: One run each.
        limit: Steps of a run at most.

    Raises:
        ScenarioError: Parts that do not wait cannot run the scenario.
        DataError: Its data are missing or broken.
    """
    scores, seconds, shares = [], [], []
    for seed in seeds:
        with closing(
            VirtualSimulation(scenario, profile, placement, seed=seed, step_seconds=list(step_seconds))
        ) as simulation:
            advance: Callable[[int], float] = partial(_advance, simulation)
            scores.append(until(target, advance, simulation.evaluate, limit))
            seconds.append(simulation.seconds)
            shares.append(simulation.cluster.goodput)
        if scores[-1].reached is None:
            break
    return SimulatedTime(Measured(tuple(scores)), tuple(seconds), statistics.fmean(shares))


def _advance(simulation: VirtualSimulation, goal: int) -> float:
    """Take steps to a number of them, and return how many have been taken."""
    while simulation.now < goal:
        simulation.step()
    return float(simulation.now)
