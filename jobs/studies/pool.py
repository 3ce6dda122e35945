"""Training of a study's runs in this process, or in worker processes with one thread; seeds of one line share a process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from antiphon.base.errors import AntiphonError, EngineError
from antiphon.base.signals import stop_signals
from antiphon.jobs.studies.plan import PlannedRuns
from antiphon.jobs.studies.scoring import Finished, add_scores
from antiphon.nets.isolation.matmul_precision import matmul_precision, set_matmul_precision
from antiphon.running.request import Request

Result = TypeVar("Result")

_KILLED = "its process was killed (by hand, or the machine was out of memory)"


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


class Pool:
    """Processes that train chunks of runs: one is this process, several are workers.

    Attributes:
        stopped: The signal that ended the work early, if one did.
    """

    def __init__(self, processes: int) -> None:
        self.stopped: list[int] = []
        self._processes = processes

    def answers(self, chunks: Sequence[Chunk]) -> Generator[tuple[Chunk, list[Answer]]]:
        """Train chunks in order, and yield each with its answers when it ends.

        Ctrl-C or SIGTERM stops the runs with checkpoints, and so does closing this iterator; no chunk is begun then. A
        worker that dies fails the runs of its chunk alone.
        """
        if self._processes > 1:
            yield from self._in_workers(chunks)
            return
        for chunk in chunks:
            answers = train(chunk)
            self.stopped = [answer.exit_code - 128 for answer in answers if answer.exit_code > 128]
            if self.stopped:
                return
            yield chunk, answers

    def _in_workers(self, chunks: Sequence[Chunk]) -> Generator[tuple[Chunk, list[Answer]]]:
        waiting, idle = deque(chunks), list[Worker]()
        running: dict[Future[list[Answer]], tuple[Chunk, Worker]] = {}

        def stop() -> None:
            for _, worker in running.values():
                worker.stop()

        with stop_signals(stop) as self.stopped:
            try:
                while running or (waiting and not self.stopped):
                    while waiting and not self.stopped and len(running) < self._processes:
                        worker = idle.pop() if idle else Worker()
                        chunk = waiting.popleft()
                        running[worker.submit(train, chunk)] = chunk, worker
                        if self.stopped:  # by a signal that came before the line above
                            worker.stop()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        chunk, worker = running.pop(future)
                        try:
                            answers = future.result()
                            idle.append(worker)
                        except BrokenProcessPool:
                            answers = [Answer(1, _KILLED) for _ in chunk.seeds]
                            worker.close()
                        if not self.stopped:
                            yield chunk, answers
            finally:
                stop()
                for worker in [*idle, *(worker for _, worker in running.values())]:
                    worker.close()


class Worker:
    """A process that takes one call after the other. It begins with a fresh interpreter, without the main program."""

    def __init__(self) -> None:
        precision = matmul_precision()
        self._executor = ProcessPoolExecutor(1, get_context("spawn"), _begin, (precision,))
        # new processes would run the main program again where it has no `if __name__ == "__main__"`
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            self._pid = self._executor.submit(os.getpid)
        finally:
            sys.modules["__main__"] = main

    def submit(self, function: Callable[..., Result], *arguments: object) -> Future[Result]:
        """Call a function that the process can import."""
        return self._executor.submit(function, *arguments)

    def stop(self) -> None:
        """Stop its runs with checkpoints; when called again, at once."""
        with suppress(BrokenProcessPool, ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGTERM)

    def close(self) -> None:
        """End the process after its call."""
        self._executor.shutdown()


def _begin(precision: str) -> None:
    """Prepare a worker: it computes in the precision of the process that began it.

    Ctrl-C reaches that process alone, output goes to stderr, and a worker ends when that process is killed.
    """
    set_matmul_precision(precision)
    if hasattr(os, "setsid"):
        os.setsid()
    os.dup2(2, 1)

    def follow() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
