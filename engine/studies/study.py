"""A study: the lines of its document side by side over seeds, each run in its own directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from antiphon.engine.metrics.description import graph_of
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.lock import locked
from antiphon.engine.runs.python_template import PythonTemplate
from antiphon.engine.studies.curves import learning_curves, read_curves, write_curves
from antiphon.engine.studies.figures import draw_curves, draw_figure
from antiphon.engine.studies.plan import Plan, PlannedRun, StudyOptions, Templates, plan
from antiphon.engine.studies.pool import Pool, job_of
from antiphon.engine.studies.representations import (
    draw_representations,
    kept_representations,
    write_representations,
)
from antiphon.engine.studies.scoring import kept_scores
from antiphon.engine.studies.summary import Finished, summary
from antiphon.engine.studies.table import write_tables
from antiphon.errors import RunError, ScenarioError, suggest
from antiphon.scenarios import Template
from antiphon.scenarios.study import StudySpec
from antiphon.scenarios.training import is_of_env, split_metric

__all__ = ["Ended", "Study", "StudyOutcome"]

_BAD_INPUT = RunError.exit_code
"""Exit code of a run that no run after it would do better than; others end for themselves alone."""
_OF_RUNS = ("variant", "steps", "accuracy", "loss", "seconds", "exit", "run_dir")
"""What a study's result repeats of each run's."""


@dataclass(frozen=True)
class Ended:
    """One run of a study, as it ends."""

    number: int
    """How many have ended, this one included."""
    total: int
    label: str
    """The line of the table that it is of, in words."""
    seed: int
    result: Mapping[str, Any]
    """Empty where it failed."""
    kept: bool
    """Whether it was there already."""
    error: str | None = None
    """Why it has no result: its process was killed, or out of memory; None where it has one."""


@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended."""

    result: Mapping[str, Any]
    """The object of `--json`."""
    exit_code: int = 0
    """0 done, 1 where runs failed (`failed` of the result), 130 or 143 stopped by a signal."""
    missing: str | None = None
    """Why there are no pictures; None where there are."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study to be carried out."""

    spec: StudySpec
    directory: Path
    """Where its runs go: `<line>-s<seed>`."""
    options: StudyOptions = field(default_factory=StudyOptions)
    templates: Templates = field(default_factory=dict)
    """Scenarios by the name that rows give them; others are loaded."""

    @classmethod
    def of_template(
        cls, template: Template | PythonTemplate, directory: Path, options: StudyOptions, **keys: Any
    ) -> Study:
        """Return the study that a scenario alone is: its variants side by side; `keys`: more of the document's."""
        spec = StudySpec.of_scenario(template.name, template.description, **keys)
        return cls(spec=spec, directory=directory, options=options, templates={template.name: template})

    @property
    def in_process(self) -> str | None:
        """A Python template that no other process can import: then all runs take place in this one, one at a time."""
        return next((source for source, one in self._python.items() if not one.importable), None)

    @property
    def _python(self) -> dict[str, PythonTemplate]:
        python = [one for one in self.templates.values() if isinstance(one, PythonTemplate)]
        return {template.source: template for template in python}

    @cached_property
    def plan(self) -> Plan:
        """Every line and run; ScenarioError where a scenario does not accept something."""
        return plan(self.spec, self.options, self.templates)

    def go(self, jobs: int, on_run: Callable[[Ended], None]) -> StudyOutcome:
        """Carry out the runs that are not there yet, `jobs` at a time, and write table.csv, table.md, figure.svg and graph.png.

        Where they are asked for: representations.csv and .svg, curves.csv and .svg. A run whose process was killed, or that
        had no memory, is missing from them; the others go on, and the next call goes on with it.

        Raises:
            ScenarioError: A variant or value that a scenario does not accept (nothing has been run), or a metric that
                its environment does not know.
            RunError: A run is there with other values (nothing has been run), or cannot begin or go on.
        """
        runs = self.plan.runs
        kept = {name: found for name, run in runs.items() if (found := self._kept(run)) is not None}
        for name in [name for name in kept if not kept.keys() >= self._trained_with(runs[name])]:
            del kept[name]  # its end was written, and those of others not: they end together
        finished: dict[str, Finished] = {}
        failed: dict[str, str] = {}

        def report(run: PlannedRun, result: Mapping[str, Any], error: str | None = None) -> None:
            number, known = len(finished) + len(failed), run.name in kept
            on_run(Ended(number, len(runs), run.label, run.seed, result, kept=known, error=error))

        def end(run: PlannedRun, found: Finished) -> None:
            finished[run.name] = found
            self._check(run, found)
            report(run, found.result)

        for name, found in kept.items():
            end(runs[name], found)
        planned = list(runs.values())
        processes = 1 if self.in_process is not None else min(jobs, len(planned))
        pool, represent = Pool(processes, self._python), self.spec.representations
        wanted = [
            job_of(r.request, self.directory / r.name, r.scorings, representations=represent) for r in planned
        ]
        done = {index for index, run in enumerate(planned) if run.name in kept}
        with locked(self.directory), closing(pool.answers(wanted, done)) as answers:
            for index, answer in answers:
                run = planned[index]
                if answer["result"] is None and answer["exit_code"] == _BAD_INPUT:
                    raise RunError(f"{run.label} s{run.seed}: {answer['error']}")
                if answer["result"] is None or answer["exit_code"] > 128:
                    code = answer["exit_code"]
                    failed[run.name] = answer["error"] or f"its process was stopped (exit code {code})"
                    report(run, {}, failed[run.name])
                else:
                    end(run, Finished(answer["result"], answer["scores"]))
        result = self._result(finished, failed, stopped=bool(pool.stopped))
        if pool.stopped:
            return StudyOutcome(result, 128 + pool.stopped[0])
        write_tables(self.directory, result)
        if self.spec.representations:
            write_representations(result, self.directory)
        if self.spec.curves:
            write_curves(result, self.directory)
        return StudyOutcome(result, 1 if failed else 0, missing=self._draw(result))

    def _trained_with(self, run: PlannedRun) -> set[str]:
        """Return the names of the runs that a run was trained together with, as far as they are of this study."""
        seeds = RunDirectory.open(self.directory / run.name).facts.get("together") or ()
        names = {f"{run.name.removesuffix(f'-s{run.seed}')}-s{seed}" for seed in seeds}
        return names & self.plan.runs.keys()

    def _check(self, run: PlannedRun, found: Finished) -> None:
        """Raise ScenarioError where a run that has ended does not know a metric of the environment's."""
        known = found.result.get("env", {})
        for metric in (*self.spec.metric, *self.spec.curves):
            if is_of_env(metric) and metric not in known:
                raise ScenarioError(
                    f"{self.spec.study}: {run.label}: the environment says nothing of {metric!r}{suggest(metric, known)}"
                )

    def _kept(self, run: PlannedRun) -> Finished | None:
        """Return a run that is there already, done and scored as is wanted."""
        path = self.directory / run.name
        outcome = run.request.outcome(path)
        if outcome is None or outcome.status != "done":
            return None
        steps = outcome.result["steps"]
        if self.spec.representations and kept_representations(path, steps) is None:
            return None
        scores = kept_scores(path, steps) if run.scorings else {}
        return Finished(outcome.result, scores) if all(s.name in scores for s in run.scorings) else None

    def _result(
        self, finished: Mapping[str, Finished], failed: Mapping[str, str], stopped: bool
    ) -> dict[str, Any]:
        spec, planned = self.spec, self.plan
        first, *others = [self._table(metric, finished) for metric in planned.metrics]
        return {
            "study": spec.study,
            "budget": planned.budget,
            "study_dir": str(self.directory),
            "exit": "stopped" if stopped else "failed" if failed else "done",
            "steps": list(planned.steps),
            "seeds": planned.seeds,
            "axes": list(planned.axes),
            "several": planned.several,
            "x": planned.x,
            "tuned": {name: list(values) for name, values in planned.tuned.items()},
            "fixed": list(planned.fixed),
            **first,
            "further": others,
            "curves": self._curves(first["lines"], finished) if spec.curves else [],
            "runs": {
                name: {"seed": run.seed, "scores": dict(finished[name].scores)}
                | {key: finished[name].result[key] for key in _OF_RUNS}
                for name, run in planned.runs.items()
                if name in finished
            },
            "failed": dict(failed),
        }

    def _table(self, metric: str, finished: Mapping[str, Finished]) -> dict[str, Any]:
        """Return what is tabulated of a metric, whose it is, its bound and the lines."""
        readouts = next(iter(self.plan.runs.values())).request.scenario.readouts
        done = [run.result for run in finished.values() if run.result["exit"] == "done"]
        unread = done and all(run.get(metric) is None and metric in run.get("env", {}) for run in done)
        of = "environment" if is_of_env(metric) or unread else split_metric(metric)[0] or "readout"
        sole = readouts[0] if of == "readout" and len(readouts) == 1 else None
        return {
            "metric": metric,
            "of": of,
            "agent": split_metric(metric)[0] or sole,
            "bound": self.spec.bound_of(metric),
            "lines": summary(self.plan, finished, metric),
        }

    def _curves(
        self, lines: Sequence[Mapping[str, Any]], finished: Mapping[str, Finished]
    ) -> list[dict[str, Any]]:
        runs = {}
        for name in {name for line in lines for name in line["runs"]}:
            if name in finished and finished[name].result["exit"] == "done":
                readouts = self.plan.runs[name].request.scenario.readouts
                table = RunDirectory.open(self.directory / name).verified("metrics.csv")
                runs[name] = read_curves(table, self.spec.curves, readouts)
        return learning_curves(lines, self.spec.curves, runs)

    def _draw(self, result: Mapping[str, Any]) -> str | None:
        """Draw the figure, and of a study of one scenario its graph, a document's with its defaults; say why not, if so."""
        from antiphon.telemetry import draw_graph
        from antiphon.telemetry.pictures import save_figure

        templates = {run.request.template.source: run.request for run in self.plan.runs.values()}
        try:
            draw_figure(result, self.directory / "figure.svg")
            if self.spec.representations:
                draw_representations(result, self.directory)
            if self.spec.curves:
                draw_curves(result, self.directory / "curves.svg")
            if len(templates) == 1:
                request = next(iter(templates.values()))
                values = {**self.spec.set, **self.options.values}
                template, scenario = request.template, request.scenario
                if isinstance(template, Template):
                    scenario = template.resolve(None, values)
                save_figure(draw_graph(graph_of(scenario)), self.directory / "graph.png")
        except RunError as error:
            return str(error)
        return None
