"""Population of one scenario: seeds that are stepped together where that is possible, and their runs, each with a directory of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError
from antiphon.base.files import write_json
from antiphon.engine.build.builder import without_weights
from antiphon.engine.environment import with_own_env
from antiphon.engine.live_system import LiveSystem
from antiphon.engine.state.hyperparameters import differences_of
from antiphon.engine.state.objects import check_apart
from antiphon.jobs.populations.population import Population, sequential_reason
from antiphon.jobs.together import Together
from antiphon.running.begin import begin, begin_request
from antiphon.running.directory import RunDirectory, check_free, remove_run
from antiphon.running.lock import LOCK, DirectoryLock
from antiphon.running.request import Request
from antiphon.running.resume import resume
from antiphon.running.run import Run, StepInfo
from antiphon.running.trainer import Observer, Outcome, Trainer
from antiphon.scenarios.training import OF_AGENTS
from antiphon.telemetry.statistics import seed_statistics

StepsOf = Callable[[Population], Callable[[], list[StepInfo]]]
"""Returns what steps all members of a population."""


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
        steps_of: Factory of the function that steps all runs, which have to be at one step; None: `Population.step`.
        exist: Where a directory exists and is not empty: `resume` (runs that have ended are kept), `overwrite` or `error`.

    Attributes:
        until: The step they stop at.
        start: The step they start from, a mean over the runs.
        done: The step of the newest checkpoint of any of them.
        sequential_reason: Why they cannot be trained together; None where they can, or there is only one.

    Raises:
        ScenarioError: The scenario cannot be built.
        DataError: Its data are missing or broken.
        RunError: A directory holds something else; nothing has been written.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        paths: Sequence[Path],
        *,
        steps_of: StepsOf | None = None,
        exist: str = "error",
    ) -> None:
        self.requests, self.paths, self._steps_of = requests, paths, steps_of
        self.until = requests[0].until
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
        self.done = max(begun.values(), default=0)
        together = self._common_steps()
        begun |= dict.fromkeys(self._ended, self.until) | together
        self._steps = [begun.get(index, 0) for index in range(len(requests))]
        self.start = sum(self._steps) // len(self._steps)
        groups: dict[Any, list[int]] = {}  # by what must be equal to train them together
        for index, step in enumerate(self._steps):
            facts = self._existing[index].facts if index in self._existing else {}
            if index not in self._ended:
                # what began in parts, or captured, goes on so, by itself
                own = index if facts.get("parts") or facts.get("capture") else None
                key = step, facts.get("dtype", "float32"), facts.get("threads", 1), own
                groups.setdefault(key, []).append(index)
        self._groups = list(groups.values())
        several = next((group for group in self._groups if len(group) > 1), None)
        self.sequential_reason: str | None = None
        if several is not None:
            request = requests[several[0]]
            with LiveSystem(without_weights(request.scenario), request.settings) as one:
                self.sequential_reason = sequential_reason([one], one.settings.backend, len(several))
        training = [group for group in self._groups if self._steps[group[0]] < self.until]
        if steps_of is not None and training and len(training[0]) < len(requests):
            at = ", ".join(sorted({f"{step:,}" for step in self._steps}))
            raise RunError(
                f"{paths[0].parent}: its members are at steps {at}; restore their directories from a copy, or begin anew with "
                "--exist overwrite"
            )
        if steps_of is None and self.sequential_reason is not None:
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
            # of a run with less than two checkpoints, 0 is one
            paths = ([path.name for path in self._existing[index].checkpoints] for index in members)
            steps = ([0, *(int(name.removeprefix("step-")) for name in names)] for names in paths)
            common = set.intersection(*(set(newest[-2:]) for newest in steps))
            if len(seeds) > 1 and common and not self._ended.keys() >= set(members):
                found |= dict.fromkeys(members, max(common))
                for index in members if max(common) < self.until else ():
                    self._ended.pop(index, None)
        return found

    def train(
        self,
        *observers: Observer,
        checkpoint_every: int | None = None,
        summary_dir: Path | None = None,
        train_group: Callable[[Sequence[int]], list[Outcome]] | None = None,
    ) -> MultiSeedOutcome:
        """Train to the end, or until a signal; RunError where a directory cannot be written.

        Args:
            observers: Of the training loops, which may follow one another (`RunProgress`).
            checkpoint_every: See `DirectoryWriter`.
            summary_dir: A folder for seeds.json: the object of `--json`.
            train_group: Trains the runs of some indices, which are at one step; None: they are trained in this process.
        """
        with nullcontext() if summary_dir is None else DirectoryLock(summary_dir):
            outcomes = dict(self._ended)
            for path in (self.paths[index] for index in outcomes):
                if (path / LOCK).exists():  # its process was killed between its end and this one's
                    DirectoryLock(path).release()
            for group in self._groups:
                if train_group is None:
                    found = self.train_group(group, observers, checkpoint_every)
                else:
                    found = train_group(group)
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

    def train_group(
        self,
        group: Sequence[int],
        observers: Sequence[Observer],
        every: int | None,
        steps_of: StepsOf | None = None,
        together: Sequence[int] = (),
    ) -> list[Outcome]:
        """Train the runs of some indices, which are at one step, to the end, or until a signal.

        Args:
            group: The indices.
            observers: See `train`.
            every: See `DirectoryWriter`.
            steps_of: In place of that of the runs.
            together: The indices of all runs that have to be at one step, in other processes too; empty: those of the group.
        """
        steps_of = steps_of or self._steps_of
        there = self._existing.get(group[0])
        # one that took its last step with others, and was killed before its end was written, ends as one of them
        facts = {} if there is None or self._steps[group[0]] != self.until else there.facts
        ended = len(facts.get("together") or ()) > 1
        if len(group) == 1 and steps_of is None and not ended:
            request, path = self.requests[group[0]], self.paths[group[0]]
            run = begin_request(request, path, exist=self._exist, checkpoint_every=every)
            apart = [_Apart()] * (len(self.requests) > 1)
            return Trainer([run], [*observers, *apart]).finish()
        with ExitStack() as begun:  # on failure no new directory is left
            seeds = [self.requests[index].seed for index in together or group]
            for index in group[1:]:
                differences_of(self.requests[group[0]].scenario, self.requests[index].scenario)
            executor = Together()
            runs = [self._begin(index, seeds, every, begun, executor) for index in group]
            population = Population.of(runs, executor)
            begun.pop_all()
        step = population.step if steps_of is None else steps_of(population)
        return Trainer(runs, observers, step).finish()

    def _begin(
        self, index: int, seeds: Sequence[int], every: int | None, undo: ExitStack, executor: Together
    ) -> Run:
        """Begin or resume the run of an index, which is trained together with those of some seeds."""
        request, path, there = self.requests[index], self.paths[index], self._existing.get(index)
        scenario = with_own_env(request.scenario, "every seed needs one of its own")
        if there is not None:
            how: dict[str, Any] = {"step": self._steps[index], "until": self.until, "together": seeds}
            given = None if request.given is None else scenario
            run = resume(there, given, executor=executor, checkpoint_every=every, **how)
            undo.callback(run.close)
            return run
        facts = {**request.facts, "backend": request.backend, "together": list(seeds)}
        undo.callback(_discard, path)
        run = begin(
            scenario,
            request.settings,
            path,
            exist=self._exist,
            executor=executor,
            checkpoint_every=every,
            until=self.until,
            facts=facts,
            variants=request.variants,
        )
        undo.callback(remove_run, path)
        undo.callback(run.close)
        return run


class _Apart(Observer):
    """Checks that the runs that follow one another share no object that keeps a state, once the first has called them."""

    def __init__(self) -> None:
        self._known = False

    def step(self, trainer: Trainer) -> None:
        self._known = self._known or check_apart(trainer.runs[0].running.system)

    def reads_state_at(self, run: Run) -> float:
        return math.inf if self._known else super().reads_state_at(run)


def _discard(path: Path) -> None:
    """Remove a run that could not begin to be written."""
    with suppress(RunError):
        if RunDirectory.open(path).facts["exit"] == "failed":
            remove_run(path)


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
