"""Chunks of a study: some seeds of one line, which are trained and scored by one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from antiphon.base.errors import AntiphonError, EngineError
from antiphon.jobs.job import Job
from antiphon.jobs.scheduler import Scheduler
from antiphon.jobs.studies.plan import PlannedRuns
from antiphon.jobs.studies.scoring import Finished, add_scores
from antiphon.running.trainer import Outcome


@dataclass(frozen=True)
class Chunk:
    """Some seeds of planned runs, and the directory of their study."""

    runs: PlannedRuns
    seeds: Sequence[int]
    directory: Path

    def jobs(self) -> list[Job]:
        """Return the job of each seed; RunError where its directory holds something else."""
        requests = [replace(self.runs.request, seed=seed) for seed in self.seeds]
        paths = [self.directory / f"{self.runs.name}-s{seed}" for seed in self.seeds]
        return [Job(request, path, exist="resume") for request, path in zip(requests, paths, strict=True)]


def train(chunk: Chunk) -> list[Finished | Outcome]:
    """Train the runs of a chunk together where that is possible, or resume them, and score them.

    Returns:
        For each seed its finished run, or how it was stopped or failed without a result.
    """
    try:
        jobs, scorings = chunk.jobs(), chunk.runs.scorings
        outcomes, answers = Scheduler(jobs).train(), list[Finished | Outcome]()
        unstarted = Outcome("stopped", outcomes.exit_code, "was not started")
        for job in jobs:
            run = outcomes.by_seed.get(job.request.seed, unstarted)
            if run.signal:
                answers.append(run)
                continue
            done = run.exit_code == 0
            scores = (
                add_scores(job.path, run.result["steps"], scorings, job.request.given_scenario)
                if done
                else {}
            )
            answers.append(Finished(run.result, scores))
    except EngineError:
        raise
    except AntiphonError as error:
        return [Outcome("failed", error.exit_code, str(error)) for _ in chunk.seeds]
    return answers
