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


@dataclass(frozen=True)
class Answer:
    """The end of one run; `finished` is None where it has no result."""

    exit_code: int = 0
    error: str | None = None
    finished: Finished | None = None


def train(chunk: Chunk) -> list[Answer]:
    """Train the runs of a chunk together where that is possible, or resume them, and score them; one answer a seed."""
    answers = []
    try:
        jobs, wanted = chunk.jobs(), chunk.runs.scorings
        outcomes = Scheduler(jobs).train()
        for job in jobs:
            run = outcomes.by_seed.get(job.request.seed)
            if run is None:
                answers.append(Answer(outcomes.exit_code, "was not started"))
                continue
            done = run.exit_code == 0
            scores = add_scores(job.path, run.result["steps"], wanted, job.request.given) if done else {}
            answers.append(Answer(run.exit_code, run.error, Finished(run.result, scores)))
    except EngineError:
        raise
    except AntiphonError as error:
        return [Answer(error.exit_code, str(error)) for _ in chunk.seeds]
    return answers
