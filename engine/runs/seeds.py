"""Seeds of one scenario: replicas that are stepped together where that is possible, and their runs, each with a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from antiphon.engine.base_simulation import StepInfo, check_continues
from antiphon.engine.build.builder import chosen_device, without_weights
from antiphon.engine.build.join_replicas import sequential_reason_of
from antiphon.engine.build.stacking import reasons_alone
from antiphon.engine.environment import EnvironmentRunner, with_own_env
from antiphon.engine.replicas import Replica, ReplicatedEngine
from antiphon.engine.runs.directory import RunDirectory, check_free, remove_run
from antiphon.engine.runs.lock import DirectoryLock
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin
from antiphon.engine.runs.run_loop import Observer, Outcome, RunLoop
from antiphon.engine.runs.run_writer import RunWriter, create_directory
from antiphon.engine.simulation import Simulation, steps_to_take
from antiphon.engine.state.checkpoint import read_simulation
from antiphon.engine.state.hyperparameters import differences_of
from antiphon.engine.state.replica_signals import joined
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.files import write_json
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.document import as_scenario
from antiphon.scenarios.training import OF_AGENTS
from antiphon.telemetry.statistics import seed_statistics

__all__ = ["MultiSeedOutcome", "MultiSeedRun", "Seeds", "sequential_reason", "summary_of"]


class Seeds:
    """Replicas of one scenario, one for each seed, all stepped at a time.

    Args:
        scenario: See `Simulation`; or one for each seed, equal but for hyperparameters.
        seeds: One for each replica; of one scenario, different ones.
        backend: `reference` and `native` step one after the other; else together, where that is possible.
        settings: Other arguments of `Simulation`.

    Attributes:
        simulations: One for each seed, in order.
        sequential_reason: Why they are stepped one after the other; None: they are stepped together.

    Raises:
        ScenarioError: No seed, a seed twice, or a scenario that cannot be built; scenarios that differ in more than
            hyperparameters.
    """

    def __init__(
        self,
        scenario: Scenario | Template | str | Path | Sequence[Scenario],
        seeds: Sequence[int],
        *,
        backend: str = "cohort",
        **settings: Any,
    ) -> None:
        seeds = list(seeds)
        given = (
            [as_scenario(scenario)] * len(seeds)
            if isinstance(scenario, Scenario | Template | str | Path)
            else list(scenario)
        )
        distinct = set(zip(map(id, given), seeds, strict=False))
        if not seeds or not len(distinct) == len(seeds) == len(given):
            raise ScenarioError(f"seeds: got {seeds}; give different ones, at least one")
        for other in given[1:]:
            differences_of(given[0], other)
        reason = "every seed needs one of its own"
        scenarios = [given[0], *(with_own_env(own, reason) for own in given[1:])]
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
                self._joint = ReplicatedEngine([simulation._system for simulation in self.simulations])
                for world, simulation in enumerate(self.simulations):
                    simulation.backend = Replica(self._joint, world)  # type: ignore[assignment]
                self._worlds = [simulation.world for simulation in self.simulations]
            elif backend != "reference":
                for simulation in self.simulations:
                    simulation._change_backend(backend)
        except BaseException:
            self.close()
            raise

    def step(self) -> list[StepInfo]:
        """Take one step of all replicas that have not diverged or been stopped, and return its info for each.

        DivergenceError where there is none.
        """
        for simulation in self.simulations:
            if simulation.stop_reason is not None and isinstance(simulation.backend, Replica):
                simulation._leave_replicas(None)
        running = [one for one in self.simulations if one.diverged is None and one.stop_reason is None]
        if not running:
            raise DivergenceError(str(self.simulations[0].diverged))
        infos: list[StepInfo] = []
        joint = self._joint
        if joint is None:
            for simulation in running:
                with suppress(DivergenceError):  # noted in the simulation
                    infos.append(simulation.step())
            return infos
        step = running[0].now
        if any(simulation.now != step for simulation in running):
            raise ScenarioError("seeds: they are at different steps; load states of the same step into all")
        watched = [simulation.row_steps.due(step) for simulation in self.simulations]
        step_signals = joined([world.step_signals for world in self._worlds])
        joint.tick(step, step_signals)
        actions = joint.engine.forward_pass.actions
        each = enumerate(self._worlds)
        ends = [world.advance(None if actions is None else actions.of(replica)) for replica, world in each]
        step_signals.complete()
        joint.cut(step, ends)
        learned = joint.learn(step, watch=any(watched))
        for world, (simulation, watch, ended) in enumerate(zip(self.simulations, watched, ends, strict=True)):
            share: object = simulation.backend
            if simulation.stop_reason is not None:
                continue
            if simulation.diverged is None and world in joint.stopped:
                simulation._leave_replicas(joint.stopped[world])
            elif simulation.diverged is None:
                assert isinstance(share, Replica)
                infos.append(simulation._record_step(step, share.report(learned), ended.ended, watch=watch))
        return infos

    def steps(self, count: int) -> Iterator[list[StepInfo]]:
        """Take `count` steps, one at a time."""
        return (self.step() for _ in range(count))

    def run(self, steps: int | None = None, *, epochs: float | None = None) -> None:
        """Run for `steps` or `epochs` (see `Simulation.run`); with neither, until `training.steps` have been done.

        DivergenceError where all replicas have diverged; if some have, `simulation.diverged` is the message of each.
        """
        first = self.simulations[0]
        steps = steps_to_take(first, steps, epochs)
        if steps is None:
            steps = max(0, first.scenario.training.steps - first.now)
        outcomes = RunLoop(self.simulations, step=self.step).run(steps)
        if all(outcome.error is not None for outcome in outcomes):
            raise DivergenceError(str(outcomes[0].error))

    def close(self) -> None:
        """Close all simulations, and the environments of seeds that have left."""
        for simulation in self.simulations:
            simulation.close()
        for world in self._worlds:
            world.env.close()


def sequential_reason(simulation: Simulation, backend: str, count: int) -> str | None:
    """Return why `count` seeds of a scenario, of one of which there is a simulation, are stepped one after the other.

    None: they are stepped together.
    """
    if backend in ("native", "reference"):
        return f"the {backend} backend was requested"
    if count == 1:
        return "there is only one"
    alone = [f"'{name}' runs unstacked: {why}" for name, why in reasons_alone(simulation._system).items()]
    return sequential_reason_of(simulation._system, alone)


@dataclass(frozen=True)
class MultiSeedOutcome:
    """How runs of several seeds ended."""

    outcomes: Mapping[int, Outcome]
    """By seed, in order; without those that had not begun when a signal came."""
    sequential_reason: str | None
    """Why they were trained one after the other; None: they were trained together."""
    exit_code: int
    """0 where some are done, 3 where all have diverged, 130 or 143 where a signal stopped them."""

    @property
    def result(self) -> dict[str, Any]:
        """The object of `--json`."""
        seeds = [dict(outcome.result) for outcome in self.outcomes.values()]
        return {"seeds": seeds, "summary": summary_of(seeds), "apart": self.sequential_reason}


class MultiSeedRun:
    """Runs that differ in their seed alone.

    Args:
        requests: One for each run, equal but for the seeds.
        paths: Their directories.
        exist: Where a directory exists and is not empty: `resume` (runs that have ended are kept), `overwrite` or `error`.

    Attributes:
        until: The step they stop at.
        start: The step they start from, a mean over the runs.
        sequential_reason: Why they cannot be trained together; None where they can, or there is only one.

    Raises:
        ScenarioError: The scenario cannot be built.
        DataError: Its data are missing or broken.
        RunError: A directory holds something else; nothing has been written.
    """

    def __init__(self, requests: Sequence[Request], paths: Sequence[Path], *, exist: str = "error") -> None:
        self.requests, self.paths = requests, paths
        self.until = requests[0].scenario.training.steps
        self._exist = exist
        self._ended: dict[int, Outcome] = {}
        self._existing: dict[int, RunDirectory] = {}
        for index, (request, path) in enumerate(zip(requests, paths, strict=True)):
            if exist != "resume":
                check_free(path, exist)
            elif (directory := request.existing(path)) is not None:
                self._existing[index] = directory
                if (outcome := request.outcome(directory)) is not None:
                    self._ended[index] = outcome
        begun = {index: directory.checkpoint_step for index, directory in self._existing.items()}
        together = self._common_steps()
        begun |= dict.fromkeys(self._ended, self.until) | together
        self._steps = [begun.get(index, 0) for index in range(len(requests))]
        self.start = sum(self._steps) // len(self._steps)
        self._groups = self._group_runs()
        several = next((group for group in self._groups if len(group) > 1), None)
        self.sequential_reason: str | None = None
        if several is not None:
            with closing(self._build(several[:1])) as one:
                self.sequential_reason = sequential_reason(
                    one.simulations[0], requests[0].backend, len(several)
                )
        if self.sequential_reason is not None:
            self._groups = [[index] for group in self._groups for index in group]

    def _common_steps(self) -> dict[int, int]:
        """Return the steps from which runs go on that were trained together and killed between their checkpoints.

        It is the newest step of which all have one, so that they go on together, to the bits of the run that nobody killed;
        those that had come to their end before the others are trained anew from there.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, directory in self._existing.items():
            facts = directory.facts
            if "alone_from" not in facts and facts["exit"] != "diverged" and not facts.get("reason"):
                groups.setdefault(tuple(facts.get("together") or ()), []).append(index)
        found: dict[int, int] = {}
        for seeds, members in groups.items():
            common = set.intersection(*(_newest_steps(self._existing[index]) for index in members))
            if len(seeds) > 1 and common and not self._ended.keys() >= set(members):
                found |= dict.fromkeys(members, max(common))
                for index in members if max(common) < self.until else ():
                    self._ended.pop(index, None)
        return found

    def _group_runs(self) -> list[list[int]]:
        """Group the indices of runs by what must be equal to train them together: step, dtype and threads."""
        groups: dict[Any, list[int]] = {}
        for index, step in enumerate(self._steps):
            facts = self._existing[index].facts if index in self._existing else {}
            if index not in self._ended:
                key = step, facts.get("dtype", "float32"), facts.get("threads", 1)
                groups.setdefault(key, []).append(index)
        return list(groups.values())

    def train(
        self,
        *observers: Observer,
        checkpoint_every: int | None = None,
        summary_dir: Path | None = None,
    ) -> MultiSeedOutcome:
        """Train to the end, or until a signal; RunError where a directory cannot be written.

        Args:
            observers: Of the run loops, which may follow one another (`RunProgress`).
            checkpoint_every: See `RunWriter`.
            summary_dir: A folder for seeds.json: the object of `--json`.
        """
        with nullcontext() if summary_dir is None else DirectoryLock(summary_dir):
            outcomes = dict(self._ended)
            for group in self._groups:
                found = self._train_group(group, observers, checkpoint_every)
                outcomes |= dict(zip(group, found, strict=True))
                for index in group:
                    self._steps[index] = self.until
                if any(outcome.exit_code > 128 for outcome in found):
                    break
            by_seed = {self.requests[index].seed: outcomes[index] for index in sorted(outcomes)}
            codes = {outcome.exit_code for outcome in by_seed.values()}
            exit_code = max(codes) if max(codes) > 128 or 0 not in codes else 0
            outcome = MultiSeedOutcome(by_seed, self.sequential_reason, exit_code)
            if summary_dir is not None:
                write_json(summary_dir / "seeds.json", outcome.result)
            return outcome

    def _train_group(
        self, group: Sequence[int], observers: Sequence[Observer], every: int | None
    ) -> list[Outcome]:
        if len(group) == 1 and not self._ends_alone(group[0]):
            request, path = self.requests[group[0]], self.paths[group[0]]
            run = begin(request, path, exist=self._exist, checkpoint_every=every)
            return run.train(*observers)
        existing = [self._existing[index] for index in group if index in self._existing]
        with ExitStack() as undo:
            for directory in existing:
                directory.lock()
                undo.callback(directory.release)
            replicas = self._build(group)
            self._open_writers(group, replicas, every)
            return Run(replicas.simulations, self.until, replicas.step).train(*observers)

    def _ends_alone(self, index: int) -> bool:
        """Return whether a run has taken its last step together with others, and been killed before its end was written."""
        there = self._existing.get(index)
        return (
            there is not None
            and self._steps[index] == self.until
            and len(there.facts.get("together") or ()) > 1
        )

    def _build(self, group: Sequence[int]) -> Seeds:
        """Build the replicas of a group, at the step they start from."""
        request, existing = self.requests[group[0]], self._existing.get(group[0])
        device, facts = chosen_device(request.device), {} if existing is None else existing.facts
        saved = self._saved(group)
        if existing is not None:
            torch.set_float32_matmul_precision(facts.get("matmul_precision", "highest"))
        replicas = Seeds(
            without_weights(request.scenario) if saved else request.scenario,
            [self.requests[index].seed for index in group],
            backend=request.backend,
            device=device,
            dtype=getattr(torch, facts.get("dtype", "float32")),
            threads=facts.get("threads", 1),
        )
        with ExitStack() as undo:
            undo.callback(replicas.close)
            for path, simulation in zip(saved, replicas.simulations, strict=False):
                simulation.scenario = request.scenario
                simulation._load_saved(read_simulation(path, request.given, device))
                check_continues(simulation)
            undo.pop_all()
        return replicas

    def _saved(self, group: Sequence[int]) -> list[Path]:
        """Return the checkpoints that a group goes on from; none where one of step 0 is missing, and all begin anew."""
        name = f"checkpoints/step-{self._steps[group[0]]:09d}"
        found = [self._existing[index].path / name for index in group if index in self._existing]
        return found if len(found) == len(group) and all(path.exists() for path in found) else []

    def _open_writers(self, group: Sequence[int], replicas: Seeds, every: int | None) -> None:
        """Open the directories of runs that are trained together; on failure no new one is left."""
        seeds = [self.requests[index].seed for index in group]
        with ExitStack() as undo:
            undo.callback(replicas.close)
            for index, simulation in zip(group, replicas.simulations, strict=True):
                directory = self._existing.get(index)
                if directory is None:
                    request, path = self.requests[index], self.paths[index]
                    facts = {**request.facts, "backend": request.backend, "together": seeds}
                    directory = create_directory(simulation, path, facts, request.variants, self._exist)
                    undo.callback(remove_run, path)
                    undo.callback(directory.release)
                elif self._steps[index] < self.until:
                    directory.note(together=seeds)
                simulation.until = self.until
                simulation._writer = RunWriter(simulation, directory, every)
            undo.pop_all()


def _newest_steps(directory: RunDirectory) -> set[int]:
    """Return the steps of a run's newest two checkpoints; of less than two, 0 is one."""
    steps = [int(path.name.removeprefix("step-")) for path in directory.checkpoints]
    return set([0, *steps][-2:])


def summary_of(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return statistics over seeds of each metric: of readouts (their mean) on the test split, and of the environment.

    By metric `mean`, `error` (standard error), `median`, `iqm`, `low`, `high` (its 95 % interval) and `n`. Diverged runs
    do not count; nor do stopped ones where others are done.
    """
    counted = [result for result in results if result["exit"] == "done"]
    counted = counted or [result for result in results if result["exit"] == "stopped"]
    rows = [{metric: one.get(metric) for metric in OF_AGENTS} for one in counted]
    for row, one in zip(rows, counted, strict=True):
        measured = {metric: value for metric, value in one["env"].items() if metric != "epoch"}
        row |= {metric: value for metric, value in measured.items() if row.get(metric) is None}
    found = {}
    for metric in dict.fromkeys(metric for row in rows for metric in row):
        values = [value for row in rows if (value := row.get(metric)) is not None]
        if values:
            found[metric] = seed_statistics(values)
    return found
