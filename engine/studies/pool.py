"""Several runs at a time, each in a process of its own interpreter with one thread."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from typing import Any

from antiphon.engine.stopping import stop_signals
from antiphon.engine.studies.worker import work

__all__ = ["Pool"]

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Pool:
    """Carries out jobs of a study (`worker.job_of`).

    Args:
        jobs: How many at a time. One is carried out in this process, more in workers.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._workers: list[subprocess.Popen[str]] = []
        self._stopping = False
        self.stopped: list[int] = []
        """The signal that ended the work early, if one did."""

    def answers(self, jobs: Sequence[dict[str, Any]]) -> Generator[tuple[int, dict[str, Any]], None, None]:
        """Carry out jobs in order and yield (index, answer of `worker.work`) as they end.

        Ctrl-C or SIGTERM stops them with checkpoints; no further one is begun, and none once the caller
        closes this iterator.
        """
        if self._jobs == 1:
            for index, job in enumerate(jobs):
                answer = work(job)
                if answer["exit_code"] > 128:
                    self.stopped.append(answer["exit_code"] - 128)
                    return
                yield index, answer
            return
        waiting = iter(list(enumerate(jobs)))
        ended: queue.Queue[tuple[int, dict[str, Any]] | None] = queue.Queue()
        lock = threading.Lock()
        count = min(self._jobs, len(jobs))
        threads = [threading.Thread(target=self._serve, args=(waiting, lock, ended)) for _ in range(count)]
        with stop_signals(self._stop) as self.stopped:
            for thread in threads:
                thread.start()
            try:
                while count:
                    found = ended.get()
                    if found is None:
                        count -= 1
                    elif not self.stopped:
                        yield found
            finally:
                if count:
                    self._stop()
                for thread in threads:
                    thread.join()

    def _stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.terminate()

    def _serve(
        self,
        waiting: Iterator[tuple[int, dict[str, Any]]],
        lock: threading.Lock,
        ended: queue.Queue[tuple[int, dict[str, Any]] | None],
    ) -> None:
        """Hand jobs to one worker after the other; a worker that dies is followed by a new one."""
        worker: subprocess.Popen[str] | None = None
        try:
            while not self._stopping:
                with lock:
                    index, job = next(waiting, (-1, {}))
                if index < 0:
                    break
                if worker is not None and worker.poll() is not None:
                    _close(worker)
                    worker = None
                worker = worker or self._start()
                ended.put((index, _ask(worker, job)))
        finally:
            if worker is not None:
                _close(worker)
            ended.put(None)

    def _start(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "antiphon.engine.studies.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
        )
        self._workers.append(worker)
        if self._stopping:  # since before it was on the list
            worker.terminate()
        return worker


def _ask(worker: subprocess.Popen[str], job: dict[str, Any]) -> dict[str, Any]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        print(json.dumps(job), file=worker.stdin, flush=True)
        line = worker.stdout.readline()
    except BrokenPipeError:
        line = ""
    if line:
        answer: dict[str, Any] = json.loads(line)
        return answer
    code = worker.wait()
    return {"result": None, "exit_code": 1, "error": f"the process that ran it ended with code {code}"}


def _close(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    assert worker.stdout is not None
    with suppress(BrokenPipeError):
        worker.stdin.close()
    worker.stdout.close()
    worker.wait()
