"""A study: its lines side by side over seeds, each run in its own directory."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError
from antiphon.base.files import display_path
from antiphon.base.problems import DocumentError
from antiphon.base.tools import copy_with
from antiphon.jobs.studies.chunks import Chunk, Processes
from antiphon.jobs.studies.plan import StudyOptions, StudyPlan, plan
from antiphon.jobs.studies.scoring import Finished, unknown_metric_line
from antiphon.jobs.studies.summary import metrics_of_study, summary
from antiphon.jobs.studies.table import write_tables
from antiphon.running.callbacks import Outcome
from antiphon.running.directory import (
    STUDY,
    DirectoryLock,
    check_exist,
    claim,
    is_free,
    is_run,
    remove_run,
)
from antiphon.running.library import scenario_names
from antiphon.running.python_template import PythonTemplate
from antiphon.scenarios import Template
from antiphon.scenarios.study_spec import StudySpec

_OF_RUNS = ("variant", "steps", "accuracy", "loss", "seconds", "exit", "run_dir")
"""Keys of each run's result that the study's result repeats."""


class _StudyProgress:
    """The runs of a study that have ended, each reported in a line.

    Attributes:
        finished: The runs that have a result, by name and seed.
        failed: Why others have none, by name and seed as one word.
    """

    def __init__(self, spec: StudySpec, plan: StudyPlan, report: Callable[[str], None]) -> None:
        self._spec, self._plan, self._report = spec, plan, report
        self.total = len(plan.runs) * plan.seeds
        self.finished: dict[str, dict[int, Finished]] = {name: {} for name in plan.runs}
        self.failed: dict[str, str] = {}

    def finish(self, chunk: Chunk, seed: int, run: Finished, note: str) -> None:
        """Add a run; ScenarioError where it has no metric of a name that the study asks for."""
        self.finished[chunk.runs.name][seed] = run
        outcome = run.result["exit"]
        if outcome == "done":
            for name in self._spec.metric:
                if name not in run.known_metrics:
                    line = unknown_metric_line(name, run.known_metrics)
                    raise self._spec.located(
                        DocumentError(("metric",), f"{chunk.runs.label} s{seed}: {line}")
                    )
            metric = metrics_of_study(self._plan, {chunk.runs.name: {seed: run}})[0]
            value = run.known_metrics.get(metric)
            if value is not None:
                shown = f"{100 * value:.2f} %" if metric.endswith("accuracy") else f"{value:.4g}"
                outcome = f"{metric} {shown}"
        self._write(chunk, seed, f"{outcome} ({note})")

    def fail(self, chunk: Chunk, seed: int, outcome: Outcome) -> None:
        """Note that a run was stopped; RunError where it could not begin or continue, as no other would do better."""
        if outcome.exit_code == RunError.exit_code:
            raise RunError(f"{chunk.runs.label} s{seed}: {outcome.error}")
        reason = outcome.error or f"its process was stopped (exit code {outcome.exit_code})"
        self.failed[f"{chunk.runs.name}-s{seed}"] = reason
        self._write(chunk, seed, f"failed: {reason}")

    def _write(self, chunk: Chunk, seed: int, outcome: str) -> None:
        ended = sum(map(len, self.finished.values())) + len(self.failed)
        self._report(f"[{ended}/{self.total}] {chunk.runs.label} s{seed}: {outcome}")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study to be carried out.

    Attributes:
        directory: The folder of its runs, `<line>-s<seed>`, and its tables.
        template: Its scenario; None: loaded by the name in the study file.
        lock: Of a new folder, so that a study that begins at the same moment takes the next one.
    """

    spec: StudySpec
    directory: Path
    options: StudyOptions = field(default_factory=StudyOptions)
    template: Template | PythonTemplate | None = None
    lock: DirectoryLock | None = None

    @classmethod
    def of_template(
        cls, template: Template | PythonTemplate, directory: Path, options: StudyOptions, **keys: Any
    ) -> Study:
        """Return the study that a scenario alone is: its variants over three seeds; `keys`: more keys of the study."""
        spec = StudySpec(
            study=template.name,
            description=template.description,
            scenario=template.name,
            **keys,
        )
        return cls(spec=spec, directory=directory, options=options, template=template)

    @property
    def in_process(self) -> str | None:
        """The source of a template that workers cannot import: then all runs take place in this process."""
        python = isinstance(self.template, PythonTemplate) and not self.template.importable
        return self.template.source if python and self.template is not None else None

    def in_folder(self, exist: str, *, is_named: bool) -> Study:
        """Return the study in its folder, or in one numbered after it.

        Args:
            is_named: Whether the folder is one that was asked for; else it is a new one.
            exist: If the folder exists and is not empty: `resume` its runs, `number` the new folder, or `overwrite` (remove the runs of
                this study there).

        Raises:
            ScenarioError: `exist` is none of these, or the study is not accepted.
            RunError: A run in the folder is being written.
        """
        check_exist(exist)
        if exist == "number" or not is_named:
            study = copy_with(self, plan=self.plan)  # what is not accepted leaves no folder
            directory, lock = claim("study", self.directory)
            return copy_with(study, directory=directory, lock=lock)
        if exist == "overwrite" and not is_free(self.directory):
            names = [f"{name}-s{seed}" for name in self.plan.runs for seed in range(self.plan.seeds)]
            runs = [path for path in (self.directory / name for name in names) if is_run(path)]
            with DirectoryLock(self.directory), ExitStack() as locks:
                for path in runs:
                    locks.enter_context(DirectoryLock(path))
                for path in runs:
                    remove_run(path)
                (self.directory / STUDY).unlink(missing_ok=True)  # its table is no longer of what is there
        return self

    @cached_property
    def plan(self) -> StudyPlan:
        """Every line and run; ScenarioError where a scenario does not accept something."""
        return plan(self.spec, self.options, self.template)

    def commands(self) -> Iterator[str]:
        """Yield the command of the runs of each line, for an array job; a study in the same folder keeps what they have done."""
        for name, planned in self.plan.runs.items():
            request, template = planned.request, planned.request.template
            words = [
                "antiphon",
                "run",
                template.name if template.name in scenario_names() else template.source,
            ]
            words += ["--variant", request.variant] if request.variant else []
            for parameter, value in request.values.items():
                words += ["--set", f"{parameter}={json.dumps(value)}"]
            words += ["--steps", f"{request.steps}"] if request.steps else []
            words += [
                "--seeds",
                f"{self.plan.seeds}",
                "--name",
                name,
                "--logdir",
                display_path(self.directory),
            ]
            yield shlex.join([*words, "--exist", "resume", "--device", request.device])

    def go(self, jobs: int, report: Callable[[str], None]) -> dict[str, Any]:
        """Carry out the runs that are not finished, `jobs` processes at a time; write table.csv and table.md.

        A run whose process was killed, or that had no memory, is missing from them; the others continue, and the next call
        resumes it. `report` is called with a line about every run that ends.

        Returns:
            The object of `--json`. `exit_code` is 0, 1 where runs failed, 130 or 143 where a signal stopped the study.

        Raises:
            ScenarioError: A variant or value that a scenario does not accept, or a metric that a run will not have (nothing
                has been run).
            RunError: A directory holds a run with other values (nothing has been run), or a run cannot begin or continue.
        """
        with self.lock or DirectoryLock(self.directory):
            return self._go(jobs, report)

    def _go(self, jobs: int, report: Callable[[str], None]) -> dict[str, Any]:
        progress = _StudyProgress(self.spec, self.plan, report)
        processes = 1 if self.in_process is not None else min(jobs, progress.total)
        waiting = []
        chunks = [(chunk, chunk.finished()) for chunk in self._chunks(processes)]
        for chunk, finished_before in chunks:
            # the others may have to go on together with those that are done
            if len(finished_before) < len(chunk.seeds):
                waiting.append(chunk)
                continue
            for seed, run in finished_before.items():
                progress.finish(chunk, seed, run, "kept")
        self.plan.check(dict.fromkeys(chunk.runs.name for chunk in waiting))
        stopped: list[int] = []
        others = Processes(processes)
        for chunk, answers in (
            ((chunk, chunk.train()) for chunk in waiting) if processes == 1 else others.train(waiting)
        ):
            for seed, answer in zip(chunk.seeds, answers, strict=True):
                if isinstance(answer, Finished):
                    progress.finish(chunk, seed, answer, f"{answer.result['seconds']:.0f} s")
                elif answer.signal:
                    stopped.append(answer.signal)
                else:
                    progress.fail(chunk, seed, answer)
            if stopped:
                break
        stopped += others.stopped
        code = 128 + stopped[0] if stopped else 1 if progress.failed else 0
        result = self._result(progress, code)
        if not stopped:
            write_tables(self.directory, result)
        return result

    def _chunks(self, processes: int) -> Iterator[Chunk]:
        """Yield the runs of each line, its seeds divided where there are fewer lines than processes."""
        runs, seeds = self.plan.runs, range(self.plan.seeds)
        shares = min(max(1, processes // len(runs)), len(seeds))
        for planned in runs.values():
            # for other processes, with nothing resolved
            bare = replace(planned, request=replace(planned.request))
            for index in range(shares):
                share = seeds[len(seeds) * index // shares : len(seeds) * (index + 1) // shares]
                yield Chunk(bare, share, self.directory)

    def _result(self, progress: _StudyProgress, exit_code: int) -> dict[str, Any]:
        plan = self.plan
        variants: dict[str, dict[str, None]] = {}  # of runs, in order
        for line in plan.lines:
            for name in line.candidates:
                variants.setdefault(name, {})[line.variant] = None
        return {
            "study": self.spec.study,
            "budget": plan.budget,
            "study_dir": str(self.directory),
            "exit_code": exit_code,
            "steps": plan.steps,
            "seeds": plan.seeds,
            "axes": list(plan.lines[0].point),
            "tuned": {name: list(values) for name, values in plan.tuned.items()},
            "fixed": list(plan.fixed),
            "lines": summary(plan, progress.finished),
            "runs": {
                f"{name}-s{seed}": {"variants": [*variants[name]], "seed": seed, "scores": dict(run.scores)}
                | {key: run.result[key] for key in _OF_RUNS}
                for name, runs in progress.finished.items()
                for seed, run in sorted(runs.items())
            },
            "failed": progress.failed,
        }
