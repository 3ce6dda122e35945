"""Replicas of one scenario that differ only in their seed, stepped together where that is possible.

Each replica is a simulation of its own, with its own environment, figures and checkpoints, and computes what it would
compute alone (to 1e-9 in float64). Agents that are alike form cohorts across replicas: even a chain of four different
networks is four cohorts of as many members as there are seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from antiphon.engine.base_simulation import StepInfo
from antiphon.engine.build.replicas import sequential_reason_of
from antiphon.engine.build.similarity import reasons_alone
from antiphon.engine.core.message import joined
from antiphon.engine.core.system import EnvironmentRunner, with_own_env
from antiphon.engine.runs.trainer import Trainer
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.replicas import Replica, ReplicatedEngine
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.scenarios import Scenario, Template, load

__all__ = ["Seeds", "sequential_reason"]


class Seeds:
    """Replicas of one scenario, one for each seed, all stepped at a time.

    Args:
        scenario: As of `Simulation`.
        seeds: One for each replica.
        backend: `reference` steps one after the other; else together, where that is possible.
        settings: Other arguments of `Simulation`.

    Attributes:
        simulations: One for each seed, in order.
        sequential_reason: Why they are stepped one after the other; None: they are stepped together.

    Raises:
        ScenarioError: No seed, one of them twice, or a scenario that cannot be built.
    """

    def __init__(
        self,
        scenario: Scenario | Template | str | Path,
        seeds: Sequence[int],
        *,
        backend: str = "cohort",
        **settings: Any,
    ) -> None:
        seeds = list(seeds)
        if not seeds or len(set(seeds)) < len(seeds):
            raise ScenarioError(f"seeds: got {seeds}; give different ones, at least one")
        if isinstance(scenario, str | Path):
            scenario = load(scenario)
        if isinstance(scenario, Template):
            scenario = scenario.resolve()
        reason = "every seed needs one of its own"
        scenarios = [scenario, *(with_own_env(scenario, reason) for _ in seeds[1:])]
        self.simulations: list[Simulation] = []
        self._joint: ReplicatedEngine | None = None
        self._worlds: list[EnvironmentRunner] = []
        """Of all seeds, diverged replicas among them: the others' steps are taken with theirs."""
        try:
            for own, seed in zip(scenarios, seeds, strict=True):
                self.simulations.append(
                    Simulation(own, seed=seed, backend=backend, stacked=False, **settings)
                )
            self.sequential_reason = sequential_reason(self.simulations[0], backend, len(seeds))
            if self.sequential_reason is None:
                self._join()
            elif backend != "reference":
                for simulation in self.simulations:
                    simulation.rerun_on(backend)
        except BaseException:
            self.close()
            raise

    def _join(self) -> None:
        self._joint = ReplicatedEngine([simulation.system for simulation in self.simulations])
        for world, simulation in enumerate(self.simulations):
            simulation.backend = Replica(self._joint, world)  # type: ignore[assignment]
        self._worlds = [simulation.world for simulation in self.simulations]

    def step(self) -> list[StepInfo]:
        """Take one step of all replicas that have not diverged, and return its info for each of them.

        Raises:
            DivergenceError: All have diverged.
        """
        running = [simulation for simulation in self.simulations if simulation.diverged is None]
        if not running:
            raise DivergenceError(str(self.simulations[0].diverged))
        infos: list[StepInfo] = []
        if self._joint is None:
            for simulation in running:
                with suppress(DivergenceError):  # noted in the simulation
                    infos.append(simulation.step())
            return infos
        joint = self._joint
        step = running[0].now
        if len({simulation.now for simulation in self.simulations if simulation.diverged is None}) > 1:
            raise ScenarioError("seeds: they are at different steps; give all of them states of one step")
        watched = [simulation.watching(step) for simulation in self.simulations]
        before = [world.step_signals for world in self._worlds]
        step_signals = joined(before)
        joint.tick(step, step_signals)
        ends = [world.advance() for world in self._worlds]
        step_signals.complete()
        joint.cut(step, ends)
        learned = joint.learn(step, watch=any(watched))
        for world, (simulation, watch, ended) in enumerate(zip(self.simulations, watched, ends, strict=True)):
            share: object = simulation.backend
            if simulation.diverged is None and world in joint.stopped:
                simulation.leave_replicas(joint.stopped[world])
            elif simulation.diverged is None:
                assert isinstance(share, Replica)
                infos.append(simulation.record_step(step, share.report(learned), ended.ended, watch=watch))
        return infos

    def steps(self, count: int) -> Iterator[list[StepInfo]]:
        """Take `count` steps, one at a time."""
        return (self.step() for _ in range(count))

    def run(self, steps: int | None = None) -> None:
        """Run for `steps`; None: until `training.steps` have been done.

        Raises:
            DivergenceError: All replicas have diverged; if some have, `simulation.diverged` is the message of each.
        """
        first = self.simulations[0]
        if steps is None:
            steps = max(0, first.scenario.training.steps - first.now)
        outcomes = Trainer(self.simulations, step=self.step).run(steps)
        if all(outcome.error is not None for outcome in outcomes):
            raise DivergenceError(str(outcomes[0].error))

    def close(self) -> None:
        """Close all simulations, and the environments of seeds that have left."""
        for simulation in self.simulations:
            simulation.close()
        for world in self._worlds:
            world.env.close()


def sequential_reason(simulation: Simulation, backend: str, count: int) -> str | None:
    """Return why seeds of a scenario are stepped one after the other; None: they are stepped together.

    Args:
        simulation: Of one seed.
        backend: As of `Seeds`.
        count: How many seeds.
    """
    if backend == "reference":
        return "the reference backend was asked for"
    if count == 1:
        return "there is only one"
    system = simulation.system
    alone = [f"'{name}' is run as itself: {why}" for name, why in reasons_alone(system).items()]
    return sequential_reason_of(system, alone)
