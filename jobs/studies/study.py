"""A study: its lines side by side over seeds, each run in its own directory."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from antiphon.base.files import display_path
from antiphon.base.imports import with_imports
from antiphon.base.problems import DocumentError
from antiphon.base.signals import stop_signals
from antiphon.jobs.job import Job
from antiphon.jobs.scheduler import Scheduler
from antiphon.jobs.studies.plan import PlannedRuns, StudyOptions, StudyPlan, plan
from antiphon.jobs.studies.scoring import Finished, add_scores, kept_scores, unknown_metric_line
from antiphon.jobs.studies.summary import metrics_of_study, summary
from antiphon.jobs.studies.table import write_tables
from antiphon.running.directory import DirectoryLock
from antiphon.running.templates import PythonTemplate, scenario_names
from antiphon.scenarios import Template
from antiphon.scenarios.study_spec import StudySpec

Ended = tuple[PlannedRuns, int, str]
"""Runs whose training has ended, its exit code, and its last words where it failed."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study to be carried out in the folder of its runs, `<line>-s<seed>`, and its tables."""

    spec: StudySpec
    directory: Path
    options: StudyOptions = field(default_factory=StudyOptions)
    template: Template | PythonTemplate | None = None

    @cached_property
    def plan(self) -> StudyPlan:
        return plan(self.spec, self.options, self.template)

    def command(self, planned: PlannedRuns) -> str:
        """Return the command of the runs of a line; a study in the same folder keeps what they have done."""
        request, template = planned.request, planned.request.template
        name = template.name if template.name in scenario_names() else template.source
        words = ["antiphon", "run", name]
        words += ["--variant", request.variant] if request.variant else []
        for parameter, value in request.values.items():
            words += ["--set", f"{parameter}={json.dumps(value)}"]
        words += ["--steps", f"{request.steps}"] if request.steps else []
        words += ["--seeds", f"{self.plan.seeds}", "--name", planned.name]
        words += ["--logdir", display_path(self.directory), "--exist", "resume", "--device", request.device]
        return with_imports(shlex.join(words))

    def go(self, report: Callable[[str], None], at_once: int = 1) -> dict[str, Any]:
        """Carry out the runs that are not finished; write table.csv and table.md, and return the object of `--json`.

        Its `exit_code` is 0, 1 where runs failed, 130 or 143 where a signal stopped the study.

        Args:
            report: Called with a line about every run that ends.
            at_once: Lines that are trained at a time, each by its command; one is trained in this process. A line whose process was
                killed is missing from the tables; the others continue, and the next call resumes it.
        """
        with DirectoryLock(self.directory):
            finished: dict[str, dict[int, Finished]] = {name: {} for name in self.plan.runs}
            failed: dict[str, str] = {}
            waiting = []
            for planned in self.plan.runs.values():
                kept = self._finished(planned)
                if len(kept) < self.plan.seeds:
                    waiting.append(planned)
                    continue
                finished[planned.name] = kept
                report(f"{planned.label}: {self._outcome(planned, kept)} (kept)")
            for planned in waiting:
                self.plan.check(planned)
            code, at_once = 0, min(at_once, len(waiting))
            here = ((planned, Scheduler(self._jobs(planned)).train().exit_code, "") for planned in waiting)
            for planned, ended, words in here if at_once <= 1 else self._train_at_once(waiting, at_once):
                if ended > 128:
                    code = ended
                    break
                if ended in (0, 3):
                    kept = finished[planned.name] = self._finished(planned, score=True)
                    report(f"{planned.label}: {self._outcome(planned, kept)}")
                else:
                    failed[planned.name] = words
                    report(f"{planned.label}: failed: {words}")
            result = self._result(finished, failed, code or int(bool(failed)))
            if not code:
                write_tables(self.directory, result)
            return result

    def _train_at_once(self, lines: Sequence[PlannedRuns], at_once: int) -> Iterator[Ended]:
        """Train lines by their commands, some at a time; a signal to this process stops all, with checkpoints."""
        running: list[subprocess.Popen[str]] = []

        def stop() -> None:
            for process in running:
                process.terminate()

        def train(planned: PlannedRuns) -> Ended:
            words = [sys.executable, "-m", *shlex.split(self.command(planned))]
            if not stopped:
                pipes: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
                process = subprocess.Popen(words, text=True, start_new_session=True, **pipes)
                running.append(process)
                told = process.communicate()[1].splitlines()
            if stopped:
                return planned, 128 + stopped[0], ""
            if process.returncode < 0:
                return planned, 1, "its process was killed (by hand, or the machine was out of memory)"
            return planned, process.returncode, told[-1].removeprefix("error: ") if told else ""

        with stop_signals(stop) as stopped, ThreadPoolExecutor(at_once) as pool:
            try:
                for ended in as_completed([pool.submit(train, planned) for planned in lines]):
                    yield ended.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                stop()

    def _jobs(self, planned: PlannedRuns) -> list[Job]:
        return [
            Job(
                replace(planned.request, seed=seed),
                self.directory / f"{planned.name}-s{seed}",
                exist="resume",
            )
            for seed in range(self.plan.seeds)
        ]

    def _finished(self, planned: PlannedRuns, *, score: bool = False) -> dict[int, Finished]:
        """Return the runs of a line by seed that have ended, and are scored as is wanted, or are scored here."""
        finished = {}
        for job in self._jobs(planned):
            if job.ended is not None:
                failed, result = job.ended.exit_code, job.ended.result
                if score and not failed:
                    add_scores(job.path, result["steps"], planned.scorings, job.request.given_scenario)
                scores = kept_scores(job.path, result["steps"])
                if failed or all(scoring.name in scores for scoring in planned.scorings):
                    finished[job.request.seed] = Finished(result, scores)
        return finished

    def _outcome(self, planned: PlannedRuns, runs: dict[int, Finished]) -> str:
        """Return the first metric of each run in words; ScenarioError where one has no metric that the study asks for."""
        words = []
        for run in runs.values():
            known = run.known_metrics
            for name in self.spec.metric if run.result["exit"] == "done" else ():
                if name not in known:
                    line = f"{planned.label}: {unknown_metric_line(name, known)}"
                    raise DocumentError(("metric",), line, source=f"{self.spec.study}: ")
            metric = metrics_of_study(self.plan, {planned.name: {0: run}})[0]
            value = known.get(metric)
            words.append(
                run.result["exit"] if value is None or run.result["exit"] != "done" else f"{value:.4g}"
            )
        return f"{metric} {', '.join(words)}"

    def _result(
        self, finished: dict[str, dict[int, Finished]], failed: dict[str, str], exit_code: int
    ) -> dict[str, Any]:
        plan = self.plan
        return {
            "study": self.spec.study,
            "budget": plan.budget,
            "study_dir": str(self.directory),
            "exit_code": exit_code,
            "steps": sorted({runs.request.scenario.training.steps for runs in plan.runs.values()}),
            "seeds": plan.seeds,
            "axes": list(plan.lines[0].point),
            "tuned": {name: list(values) for name, values in plan.tuned.items()},
            "lines": summary(plan, finished),
            "failed": failed,
        }
