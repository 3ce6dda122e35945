"""Several runs at a time, in processes of their own with one thread; seeds of one scenario share a process.

A worker reads jobs from stdin, a line at a time, carries them out, and writes a line. A line is a list of jobs (`job_of`)
that are equal but for the seed; the line written is a list of answers (`work`), null where the seeds cannot be trained together.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from antiphon.engine.runs.directory import RunDirectory, now
from antiphon.engine.runs.python_template import PythonTemplate, load_python
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run_loop import stop_signals
from antiphon.engine.studies.representations import measure_representations
from antiphon.engine.studies.scoring import Scoring, add_scores
from antiphon.errors import AntiphonError, EngineError
from antiphon.scenarios import Template

if TYPE_CHECKING:
    from antiphon.engine.runs.run_loop import Outcome
    from antiphon.scenarios import Scenario

__all__ = ["Pool", "job_of", "work"]

Job = dict[str, Any]
Answer = dict[str, Any]
Templates = Mapping[str, PythonTemplate]
Group = list[tuple[int, Job]]
"""Jobs with their places among all, equal but for the seed."""

_OWN = ("seed", "path")
"""What jobs that can be joined may differ in."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_SETTINGS = ("variant", "values", "steps", "seed", "device", "command")
"""Of a request, that a job has as they are."""


def job_of(
    request: Request, path: Path, scorings: Sequence[Scoring] = (), *, representations: bool = False
) -> Job:
    """Return a run as plain data; `scorings`: further scores, besides its result."""
    return {
        "text": request.template.text,
        "source": request.template.source,
        "python": isinstance(request.template, PythonTemplate),
        **{name: getattr(request, name) for name in _SETTINGS},
        "path": str(path),
        "scorings": [asdict(scoring) for scoring in scorings],
        "representations": representations,
    }


def work(jobs: Sequence[Job], templates: Templates = MappingProxyType({})) -> list[Answer] | None:
    """Carry out a run, or the runs of several seeds in one program, or resume them, and score them.

    Args:
        jobs: Of one scenario.
        templates: By source, those that are at hand; others are read or imported.

    Returns:
        For each job `result` (None where there is none), `scores` (by `Scoring.name`), `exit_code` and `error` (a line,
        or None). None: the seeds cannot be trained together, and nothing has been done.
    """
    from antiphon.engine.runs.seeds import MultiSeedRun

    try:
        requests = [
            Request(
                template=templates.get(job["source"]) or _template(job),
                **{name: job[name] for name in _SETTINGS},
            )
            for job in jobs
        ]
        runs = MultiSeedRun(requests, [Path(job["path"]) for job in jobs], resume_if_exists=True)
        if runs.sequential_reason is not None:
            return None
        outcome = runs.train()
        return [
            _answer(job, outcome.outcomes[job["seed"]], request.given)
            if job["seed"] in outcome.outcomes
            else _failed(outcome.exit_code, "was not begun")
            for job, request in zip(jobs, requests, strict=True)
        ]
    except EngineError:
        raise
    except AntiphonError as error:
        return [_failed(error.exit_code, str(error)) for _ in jobs]


def _failed(exit_code: int, error: str) -> Answer:
    return {"result": None, "scores": {}, "exit_code": exit_code, "error": error}


def _template(job: Job) -> Template | PythonTemplate:
    return load_python(job["source"]) if job["python"] else Template.from_yaml(job["text"], job["source"])


def _answer(job: Job, outcome: Outcome, scenario: Scenario | None) -> Answer:
    """Score a run if it is done, and return the answer to its job."""
    scores = {}
    if outcome.exit_code == 0:
        path, steps = Path(job["path"]), outcome.result["steps"]
        scores = add_scores(path, steps, [Scoring(**scoring) for scoring in job["scorings"]], scenario)
        if job["representations"]:
            measure_representations(path, steps, scenario)
    return {
        "result": outcome.result,
        "scores": scores,
        "exit_code": outcome.exit_code,
        "error": outcome.error,
    }


class Pool:
    """Carries out jobs of a study (`job_of`) in so many processes: one is this one, more are workers.

    Jobs that are equal but for the seed are one program where they can be joined. Where there are fewer such groups than
    processes, groups are split, so that none is idle. `templates` are Python's, by source: other processes
    import them.
    """

    def __init__(self, jobs: int, templates: Templates = MappingProxyType({})) -> None:
        self._jobs, self._templates = jobs, templates
        self._workers: list[subprocess.Popen[str]] = []
        self._stopping = False
        self.stopped: list[int] = []
        """The signal that ended the work early, if one did."""
        self._waiting: deque[Group] = deque()
        self._undecided = 0
        """Groups that are at work and may yet turn out to be single runs."""
        self._changed = threading.Condition()

    def answers(
        self, jobs: Sequence[Job], done: Container[int] = ()
    ) -> Generator[tuple[int, Answer], None, None]:
        """Carry out jobs in order, but for those `done`, and yield (index, answer of `work`) as they end.

        Those done count where jobs are grouped: the others are together with the same ones whenever they are carried out.

        Ctrl-C or SIGTERM stops them with checkpoints; no further one is begun, and none once the caller
        closes this iterator.
        """
        groups = ([one for one in group if one[0] not in done] for group in _grouped(jobs, self._jobs))
        self._waiting.extend(group for group in groups if group)
        if self._jobs == 1:
            yield from self._here()
            return
        ended: queue.Queue[tuple[int, Answer] | None] = queue.Queue()
        count = min(self._jobs, sum(map(len, self._waiting)))
        threads = [threading.Thread(target=self._serve, args=(ended,)) for _ in range(count)]
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

    def _here(self) -> Generator[tuple[int, Answer], None, None]:
        while self._waiting:
            group = self._waiting.popleft()
            answers = work([job for _, job in group], self._templates)
            if answers is None:
                self._part(group)
                continue
            for (index, _), answer in zip(group, answers, strict=True):
                if answer["exit_code"] > 128:
                    self.stopped.append(answer["exit_code"] - 128)
                    return
                yield index, answer

    def _part(self, group: Group) -> None:
        """Let runs that cannot be joined be the next, one by one."""
        self._waiting.extendleft([one] for one in reversed(group))

    def _stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.terminate()
        with self._changed:
            self._changed.notify_all()

    def _next(self) -> Group | None:
        """Return the next group; None where there is none, and none will come."""
        with self._changed:
            while not self._stopping and not self._waiting and self._undecided:
                self._changed.wait()
            if self._stopping or not self._waiting:
                return None
            group = self._waiting.popleft()
            self._undecided += len(group) > 1
            return group

    def _serve(self, ended: queue.Queue[tuple[int, Answer] | None]) -> None:
        """Hand jobs to one worker after the other; a worker that dies is followed by a new one."""
        worker: subprocess.Popen[str] | None = None
        try:
            while (group := self._next()) is not None:
                if worker is not None and worker.poll() is not None:
                    worker.communicate()
                    worker = None
                worker = worker or self._start()
                answers = self._answers(worker, group)
                for (index, _), answer in zip(group, answers or [], strict=answers is not None):
                    ended.put((index, answer))
        finally:
            if worker is not None:
                worker.communicate()
            ended.put(None)

    def _answers(self, worker: subprocess.Popen[str], group: Group) -> list[Answer] | None:
        """Return a worker's answers to a group; None: it has been parted."""
        answers: list[Answer] | None = []
        try:
            answers = _ask(worker, [job for _, job in group])
        finally:
            with self._changed:
                self._undecided -= len(group) > 1
                if answers is None:
                    self._part(group)
                self._changed.notify_all()
        return answers

    def _start(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "antiphon.engine.studies.pool"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={
                **os.environ,
                **_ONE_THREAD,
                "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
            },
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
        )
        self._workers.append(worker)
        if self._stopping:  # since before it was on the list
            worker.terminate()
        return worker


def _ask(worker: subprocess.Popen[str], jobs: Sequence[Job]) -> list[Answer] | None:
    """Return the answers to jobs; None where they cannot be joined."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        print(json.dumps(jobs), file=worker.stdin, flush=True)
        line = worker.stdout.readline()
    except BrokenPipeError:
        line = ""
    if line:
        answers: list[Answer] | None = json.loads(line)
        return answers
    error = _ending(worker.wait())
    for job in jobs:
        _note_end(Path(job["path"]), error)
    return [_failed(1, error) for _ in jobs]


def _ending(code: int) -> str:
    """Return how a worker ended, by its exit code."""
    if code >= 0:
        return f"the process that ran it ended with code {code}"
    name = signal.Signals(-code).name
    why = " (by hand, or the machine was out of memory)" if -code == signal.SIGKILL else ""
    return f"the process that ran it was killed by {name}{why}"


def _note_end(path: Path, error: str) -> None:
    """Note in run.json how a run ended whose process could not."""
    with suppress(AntiphonError):  # it had not begun, or its disk is the reason
        directory = RunDirectory.open(path)
        if directory.facts["exit"] == "running":
            directory.note(exit="failed", error=error, finished=now())


def _grouped(jobs: Sequence[Job], processes: int) -> Iterable[Group]:
    """Return jobs in groups that are equal but for the seed, as many as keep all processes at work."""
    by_job: dict[str, dict[int, tuple[int, Job]]] = {}
    singles: list[Group] = []
    for index, job in enumerate(jobs):
        key = json.dumps({name: value for name, value in job.items() if name not in _OWN}, sort_keys=True)
        group = by_job.setdefault(key, {})
        if job["seed"] in group:
            singles.append([(index, job)])
        else:
            group[job["seed"]] = index, job
    groups = [list(group.values()) for group in by_job.values()]
    found = singles
    for members in groups:
        parts = min(max(1, processes // len(groups)), len(members))
        edges = [len(members) * part // parts for part in range(parts + 1)]
        found += [members[start:end] for start, end in pairwise(edges)]
    return sorted(found, key=lambda group: group[0][0])


def main() -> None:
    """Carry out jobs until stdin ends. Other output goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with suppress(KeyboardInterrupt):  # the second signal, of which run.json and the study have a line
        for line in sys.stdin:
            print(json.dumps(work(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
