"""Scheduler of jobs that differ in seeds and hyperparameters: which are kept, stacked in one program, or trained in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from antiphon.base.errors import RunError, ScenarioError
from antiphon.engine.build.builder import without_weights
from antiphon.engine.live_system import LiveSystem
from antiphon.engine.state.changes import differences_of
from antiphon.jobs.job import Job
from antiphon.jobs.populations.population import Population, sequential_reason
from antiphon.jobs.stacked_program import Together
from antiphon.running.callbacks import Callback, Outcome
from antiphon.running.directory import LOCK, DirectoryLock
from antiphon.running.loop import train_to_end
from antiphon.running.run import Run, StepInfo
from antiphon.running.templates import Request
from antiphon.scenarios.training import OF_AGENTS
from antiphon.telemetry.intervals import mean


@dataclass(frozen=True)
class Outcomes:
    """How jobs ended, by seed, in order; without those that had not begun when a signal came."""

    by_seed: Mapping[int, Outcome]

    @property
    def exit_code(self) -> int:
        """0 where some are done, 3 where all have diverged, 130 or 143 where a signal stopped them."""
        codes = {outcome.exit_code for outcome in self.by_seed.values()}
        return max(codes) if max(codes) > 128 or 0 not in codes else 0

    @property
    def result(self) -> dict[str, Any]:
        seeds = [dict(outcome.result) for outcome in self.by_seed.values()]
        return {"seeds": seeds, "summary": summary_of(seeds)}


class Scheduler:
    """Trains jobs that differ in seeds and hyperparameters alone, together where that is possible.

    Args:
        step: Takes a step of all of them, which are at one step then, or RunError; None: each goes its own way.

    Attributes:
        sequential_reason: Why they cannot be trained together; None where they can, or there is only one.
    """

    def __init__(
        self, jobs: Sequence[Job], step: Callable[[Population], list[StepInfo]] | None = None
    ) -> None:
        self.jobs, self._step = jobs, step
        self.until = jobs[0].until
        _continue_together(jobs)
        self.start = sum(job.step for job in jobs) // len(jobs)
        groups: dict[Any, list[Job]] = {}  # by what must be equal to train them together
        for job in jobs:
            if job.ended is None:
                alone = None if job.sequential_reason is None else job
                key = job.step, job.fact("dtype", "float32"), job.fact("threads", 1), alone
                groups.setdefault(key, []).append(job)
        self._groups = list(groups.values())
        self.sequential_reason: str | None = None
        if self._groups and len(jobs) > 1:
            job = max(self._groups, key=len)[0]
            self.sequential_reason, settings = job.sequential_reason, job.request.settings
            if self.sequential_reason is None:
                with LiveSystem(without_weights(job.request.scenario), settings) as system:
                    self.sequential_reason = sequential_reason([system], settings.backend, len(jobs))
        training = [group for group in self._groups if group[0].step < self.until]
        if step is not None and training and len(training[0]) < len(jobs):
            at = ", ".join(sorted({f"{job.step:,}" for job in jobs}))
            raise RunError(f"{jobs[0].path.parent}: its members are at steps {at}; restore them from a copy")
        if step is None and self.sequential_reason is not None:
            self._groups = [[job] for group in self._groups for job in group]
        for first, *others in self._groups:
            for job in others:
                check_member(first.request, job.request)

    def train(self, *callbacks: Callback) -> Outcomes:
        """Train to the end, or until a signal; RunError where a directory cannot be written."""
        outcomes: dict[Job, Outcome] = {}
        for job in self.jobs:
            if job.ended is not None:
                if (job.path / LOCK).exists():  # its process was killed between its end and this one's
                    DirectoryLock(job.path).release()
                outcomes[job] = job.ended
        for group in self._groups:
            results = self._train_group(group, callbacks)
            outcomes |= dict(zip(group, results, strict=True))
            if any(outcome.signal for outcome in results):
                break
        by_seed = {job.request.seed: outcomes[job] for job in self.jobs if job in outcomes}
        return Outcomes(by_seed)

    def _train_group(self, group: Sequence[Job], callbacks: Sequence[Callback]) -> list[Outcome]:
        first = group[0]
        # its last step was taken with others, and its end was not written: it ends as one of them
        ends_together = first.step == first.until and len(first.fact("together") or ()) > 1
        if len(group) == 1 and self._step is None and not ends_together:
            return train_to_end([first.begin()], callbacks)
        with ExitStack() as begun:  # on failure no new directory is left
            seeds = [job.request.seed for job in group]
            executor = Together()
            runs = list[Run]()
            for job in group:
                runs.append(job.begin(seeds, executor))
                begun.callback(runs[-1].discard if job.directory is None else runs[-1].close)
            population = Population.of(runs, executor)
            begun.pop_all()
        step = population.step if self._step is None else partial(self._step, population)
        return train_to_end(runs, callbacks, step)


def check_member(first: Request, request: Request) -> None:
    """Raise ScenarioError where a member of a population differs from the first in structure; the line names what varies."""
    try:
        differences_of(first.scenario, request.scenario)
    except ScenarioError:
        for name, value in request.values.items():
            alone = replace(first, values={**first.values, name: value})
            try:
                differences_of(first.scenario, alone.scenario)
            except ScenarioError as error:
                raise ScenarioError(f"vary.{name}: {error}") from None
        raise


def _continue_together(jobs: Sequence[Job]) -> None:
    """Have jobs that were trained together, and killed between their checkpoints, continue from one step.

    It is the newest step of which all have a checkpoint, so that they go on together, to the bits of the run that was not
    killed; those that had come to their end before the others are trained anew from there.
    """
    groups, steps = dict[tuple[int, ...], list[Job]](), dict[Job, set[int]]()
    for job in jobs:
        settled = job.fact("exit") == "diverged" or job.fact("reason")
        if job.directory is not None and not settled:
            groups.setdefault(tuple(job.fact("together") or ()), []).append(job)
            # of a run with less than two checkpoints, 0 is one
            steps[job] = {*[0, *job.directory.checkpoints][-2:]}
    for seeds, members in groups.items():
        common = set.intersection(*(steps[job] for job in members))
        if len(seeds) > 1 and common and any(job.ended is None for job in members):
            for job in members:
                job.step = max(common)
                job.ended = job.ended if job.step == job.until else None


def metrics_of_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of a run that are compared over seeds: of readouts, and those of the environment of which these have none."""
    of_readouts = {metric: result.get(metric) for metric in OF_AGENTS}
    measured = {metric: value for metric, value in result["env"].items() if metric != "epoch"}
    return of_readouts | {
        metric: value for metric, value in measured.items() if of_readouts.get(metric) is None
    }


def summary_of(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return by metric (`metrics_of_result`) `mean`, `low`, `high` (its 95 % interval), `sd` and `n` over seeds.

    Diverged runs do not count; nor do stopped ones where others are done.
    """
    counted = [result for result in results if result["exit"] == "done"]
    counted = counted or [result for result in results if result["exit"] == "stopped"]
    rows = [metrics_of_result(result) for result in counted]
    statistics = {}
    for metric in dict.fromkeys(metric for row in rows for metric in row):
        values = [value for row in rows if (value := row.get(metric)) is not None]
        if values:
            of_seeds = mean(values)
            interval = {"low": of_seeds.low, "high": of_seeds.high, "sd": of_seeds.sd}
            statistics[metric] = {"mean": of_seeds.value, **interval, "n": len(values)}
    return statistics
