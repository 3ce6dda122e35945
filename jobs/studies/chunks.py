"""Chunks of a study: some seeds of one line, which are trained and scored by one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from antiphon.base.errors import AntiphonError, EngineError
from antiphon.jobs.studies.plan import PlannedRuns
from antiphon.jobs.studies.scoring import Finished, add_scores
from antiphon.running.request import Request


@dataclass(frozen=True)
class Chunk:
    """Some seeds of planned runs, and the directory of their study."""

    runs: PlannedRuns
    seeds: Sequence[int]
    directory: Path

    @property
    def requests(self) -> list[Request]:
        """The request of each seed, with nothing resolved."""
        return [replace(self.runs.request, seed=seed) for seed in self.seeds]

    @property
    def paths(self) -> list[Path]:
        """The run directory of each seed."""
        return [self.directory / f"{self.runs.name}-s{seed}" for seed in self.seeds]


@dataclass(frozen=True)
class Answer:
    """The end of one run; `finished` is None where it has no result."""

    exit_code: int = 0
    error: str | None = None
    finished: Finished | None = None


def train(chunk: Chunk) -> list[Answer]:
    """Train the runs of a chunk together where that is possible, or resume them, and score them; one answer a seed."""
    from antiphon.jobs.seeds import MultiSeedRun

    answers = []
    try:
        requests, wanted = chunk.requests, chunk.runs.scorings
        outcome = MultiSeedRun(requests, chunk.paths, exist="resume").train()
        for request, path in zip(requests, chunk.paths, strict=True):
            run = outcome.outcomes.get(request.seed)
            if run is None:
                answers.append(Answer(outcome.exit_code, "was not started"))
                continue
            done = run.exit_code == 0
            scores = add_scores(path, run.result["steps"], wanted, request.given) if done else {}
            answers.append(Answer(run.exit_code, run.error, Finished(run.result, scores)))
    except EngineError:
        raise
    except AntiphonError as error:
        return [Answer(error.exit_code, str(error)) for _ in chunk.seeds]
    return answers
