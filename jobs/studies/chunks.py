"""Chunks of a study: some seeds of one line, which are trained and scored here, or in a process of their own."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from types import ModuleType
from typing import Any

from antiphon.base.errors import AntiphonError, EngineError
from antiphon.base.signals import stop_signals
from antiphon.jobs.job import Job
from antiphon.jobs.scheduler import Scheduler
from antiphon.jobs.studies.plan import PlannedRuns
from antiphon.jobs.studies.scoring import Finished, add_scores, kept_scores
from antiphon.nets.devices import matmul_precision, set_matmul_precision
from antiphon.running.callbacks import Outcome

Answers = Sequence[Finished | Outcome]
"""For each seed its finished run, or how it was stopped or failed without a result."""
_SPAWN = get_context("spawn")
_KILLED = Outcome("failed", 1, "its process was killed (by hand, or the machine was out of memory)")


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

    def finished(self) -> dict[int, Finished]:
        """Return the runs by seed that are done and scored as is wanted."""
        finished = {}
        for job in self.jobs():
            if job.ended is not None and job.ended.status == "done":
                scores = kept_scores(job.path, job.ended.result["steps"])
                if all(scoring.name in scores for scoring in self.runs.scorings):
                    finished[job.request.seed] = Finished(job.ended.result, scores)
        return finished

    def train(self) -> Answers:
        """Train the runs together where that is possible, or resume them, and score them."""
        try:
            jobs, scorings = self.jobs(), self.runs.scorings
            outcomes, answers = Scheduler(jobs).train(), list[Finished | Outcome]()
            unstarted = Outcome("stopped", outcomes.exit_code, "was not started")
            for job in jobs:
                run = outcomes.by_seed.get(job.request.seed, unstarted)
                if run.signal:
                    answers.append(run)
                    continue
                scores = {}
                if run.exit_code == 0:
                    steps, scenario = run.result["steps"], job.request.given_scenario
                    scores = add_scores(job.path, steps, scorings, scenario)
                answers.append(Finished(run.result, scores))
        except EngineError:
            raise
        except AntiphonError as error:
            return [Outcome("failed", error.exit_code, str(error)) for _ in self.seeds]
        return answers


class Processes:
    """Processes of this machine that train chunks, each one; a signal to this process stops all, with checkpoints.

    Attributes:
        stopped: The signals that have come.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._running: dict[Any, tuple[Any, Chunk]] = {}
        """By pipe."""
        self.stopped: list[int] = []

    def train(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Answers]]:
        """Train chunks and yield each with its answers when it has ended; none begins, and none is yielded, after a signal."""
        waiting = [*chunks]
        with stop_signals(self._stop) as self.stopped:
            try:
                while self._running or (waiting and not self.stopped):
                    while waiting and len(self._running) < self._at_once and not self.stopped:
                        self._start(waiting.pop(0))
                    for pipe in connection.wait([*self._running]):
                        chunk, answers = self._answers(pipe)
                        if not self.stopped:
                            yield chunk, answers
            finally:
                self._stop()
                while self._running:
                    self._answers(next(iter(self._running)))

    def _stop(self) -> None:
        for process, _ in [*self._running.values()]:
            process.terminate()

    def _start(self, chunk: Chunk) -> None:
        ours, theirs = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=_answer, args=(theirs, matmul_precision(), chunk))
        # it would run the main program again where that has no `if __name__ == "__main__"`
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            process.start()
        finally:
            sys.modules["__main__"] = main
        theirs.close()
        self._running[ours] = process, chunk

    def _answers(self, pipe: Any) -> tuple[Chunk, Answers]:
        """Return what a process that has ended, or ends, answers."""
        process, chunk = self._running[pipe]
        try:
            answers: Answers = pipe.recv()
        except EOFError:
            answers = [_KILLED] * len(chunk.seeds)
        process.join()
        del self._running[pipe]
        return chunk, answers


def _answer(pipe: Any, precision: str | None, chunk: Chunk) -> None:
    """Train a chunk in a process of its own, which a Ctrl-C does not reach, which writes to stderr and ends with its parent."""
    with suppress(AttributeError, PermissionError):
        os.setsid()
    os.dup2(2, 1)
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent.join,), daemon=True).start()
    set_matmul_precision(precision)
    pipe.send(chunk.train())


def _follow(ended: Callable[[], object]) -> None:
    ended()
    os._exit(1)
