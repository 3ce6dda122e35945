"""A population's run: a run directory for each member, the selections among them, and their lineage.

`population.json` has the document, the template of the scenario and the lineage; `lineage.csv` is a table of the latter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from antiphon.base.errors import RunError
from antiphon.base.files import display_path, read_json, write_csv, write_json
from antiphon.base.problems import DocumentError
from antiphon.base.spec import plain
from antiphon.engine.live_system import LiveSystem
from antiphon.jobs.job import Job
from antiphon.jobs.populations.population import Population
from antiphon.jobs.populations.selection import (
    Entry,
    initial_values,
    metric_of,
    score_of,
    selected,
    written_score,
)
from antiphon.jobs.scheduler import Scheduler
from antiphon.running.callbacks import Callback, Outcome, RunProgress
from antiphon.running.directory import POPULATION, DirectoryLock, RunDirectory, check_free, function_of
from antiphon.running.run import StepInfo
from antiphon.running.templates import PythonTemplate, Request, load_python
from antiphon.scenarios import Template
from antiphon.scenarios.loading import MADE_IN_PYTHON
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.training import quality
from antiphon.telemetry.metrics import Metric

LINEAGE = "lineage.csv"


class PopulationRun(Callback):
    """The runs of a population's members, each in a directory of its own, `member-0` and so on, and the selections among them.

    The selection due after a step is the beginning of the next one: a checkpoint is of the state before it. `until` is the step to
    stop at, while schedules keep `training.steps`; None: these, or a later one that the members were given before.
    """

    def __init__(
        self,
        spec: PopulationSpec,
        template: Template | PythonTemplate,
        directory: Path,
        *,
        until: int | None = None,
        checkpoint_every: int | None = None,
        **settings: Any,
    ) -> None:
        self.spec, self.template, self.directory = spec, template, directory
        self.lineage: list[Entry] = []
        self.metric: str | None = None
        before = list[RunDirectory]()
        if (directory / POPULATION).is_file():
            facts = read_json(directory / POPULATION)
            self.metric, self.lineage = facts["metric"], [Entry(**entry) for entry in facts["lineage"]]
            if facts["document"] != plain(spec):
                raise RunError(f"{directory}: holds another population; choose another name")
            before = [RunDirectory.open(path.parent) for path in directory.glob("member-*/run.json")]
        else:
            check_free(directory)
        requests = requests_of(spec, template, **settings)
        training = requests[0].scenario.training
        ends = [run.facts["steps"] for run in before]
        self.until = max([training.steps, *ends]) if until is None else until
        how: Any = {"exist": "resume", "checkpoint_every": checkpoint_every, "until": self.until}
        members = [Job(request, self._path(member), **how) for member, request in enumerate(requests)]
        self.scheduler = Scheduler(members, None if spec.select is None else self._take_step)
        if spec.select is not None and training.evaluate is not None and training.evaluate.patience:
            line = "compares members at the same steps, and `training.evaluate.patience` ends some early; leave one out"
            raise DocumentError(("select",), line, source=f"{spec.population}: ")

    @classmethod
    def of_directory(cls, directory: Path, python: str | None = None, **settings: Any) -> Self:
        """Return the population of a folder, to continue it; `python`: MODULE:FUNCTION of its scenario, RunError where it is needed."""
        facts = read_json(directory / POPULATION)
        spec = PopulationSpec(**facts["document"])
        source, text = facts["template"]["source"], facts["template"]["text"]
        for member in [*directory.glob("member-*/run.json")][:1]:
            first = RunDirectory.open(member.parent)
            settings |= {name: first.facts[name] for name in ("device", "backend")}
        if python is None and source in MADE_IN_PYTHON.values():
            python = source
        if python is None and not text:
            raise RunError(
                f"{directory}: its scenario was made in Python; add --scenario {function_of(source)}"
            )
        loaded = Template.from_yaml(text, source) if python is None else load_python(python)
        return cls(spec, loaded, directory, **settings)

    def train(self, progress: RunProgress | None = None) -> dict[str, Any]:
        """Train to the end, or until a signal, and return the result as plain data; RunError where it cannot be written."""
        with DirectoryLock(self.directory):
            # what an earlier session wrote after the step is dropped, but for the ends of members
            start, end = self.scheduler.start, self.until
            self.lineage = [entry for entry in self.lineage if entry.step < start or start == end]
            self._write()
            outcomes = self.scheduler.train(*([] if progress is None else [progress]), self)
        newest, values = self._newest, self._values
        copies = {entry.member: entry for entry in self.lineage if entry.copied}
        members: list[dict[str, Any]] = []
        for seed, outcome in outcomes.by_seed.items():
            member = seed - self.spec.seed
            entry, copy = newest.get(member), copies.get(member)
            members.append(
                {
                    "member": member,
                    **{k: outcome.result.get(k) for k in ("seed", "exit", "steps", "seconds", "run_dir")},
                    "score": entry.score if entry else None,
                    "error": entry.error if entry else 0.0,
                    "values": values[member],
                    "copied_from": copy.parent if copy else None,
                    "copied_at": copy.step if copy else None,
                }
            )
        done = [member for member in members if member["exit"] == "done"]
        return {
            "population": self.spec.population,
            "metric": self.metric,
            "run_dir": display_path(self.directory),
            "best": max(done, key=lambda member: quality(member["score"], self.metric), default=None),
            "members": members,
            "exit_code": outcomes.exit_code,
        }

    @property
    def _values(self) -> list[dict[str, float]]:
        newest = self._newest
        return [
            newest[member].next_values if member in newest else values
            for member, values in enumerate(initial_values(self.spec))
        ]

    @property
    def _newest(self) -> dict[int, Entry]:
        return {entry.member: entry for entry in self.lineage}

    def _path(self, member: int) -> Path:
        return self.directory / f"member-{member:0{len(str(self.spec.members - 1))}}"

    # --- between steps -----------------------------------------------------------------------------------

    def _take_step(self, population: Population) -> list[StepInfo]:
        step = population.runs[0].running.now
        self._select(population, step)
        infos = population.step()
        self._revive(population, step)
        return infos

    def _select(self, population: Population, step: int) -> None:
        """Select among the members where that is due; all are there, in order."""
        select = self.spec.select
        assert select is not None  # without a selection the scheduler asks for none
        self.metric = self.metric or select.by or metric_of(population.runs[0].running)
        if not step or step % select.every:
            return
        scores = [score_of(run.running, self.metric) for run in population.runs]
        entries = selected(self.spec, select, step, self.metric, scores, self._values)
        for entry in entries:
            if entry.copied:
                population.exploit(entry.member, entry.parent)
                self._explore(population, entry, f"copied from member {entry.parent}")
        self.lineage += entries
        self._write()
        for run, entry in zip(population.runs, entries, strict=True):
            run.log(step, [Metric("run", "", name, value) for name, value in entry.next_values.items()])

    def _revive(self, population: Population, step: int) -> None:
        """Let members that have diverged at a step continue as copies of the best that has not; if all have, none can."""
        errors = {member: run.running.diverged for member, run in enumerate(population.runs)}
        healthy = [member for member, error in errors.items() if error is None]
        if len(healthy) in (0, len(errors)):
            return
        newest, values = self._newest, self._values
        scores = {member: newest[member].score for member in healthy if member in newest}
        parent = max(healthy, key=lambda member: quality(scores.get(member), self.metric))
        for member, error in errors.items():
            if error is not None:
                entry = Entry(step, member, parent, None, 0.0, values[member], values[parent])
                population.revive(member, step + 1, parent)
                self._explore(population, entry, f"copied from member {parent} since it diverged ({error})")
                self.lineage.append(entry)
        self._write()

    def _explore(self, population: Population, entry: Entry, line: str) -> None:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in entry.next_values.items())
        scenario = _request(self.spec, self.template, entry.next_values).scenario
        population.explore(entry.member, scenario, f"{line}; continues with {shown}")

    def end(self, running: LiveSystem, outcome: Outcome) -> None:
        if outcome.status == "done":
            member, step = running.seed - self.spec.seed, running.now
            self.lineage = [entry for entry in self.lineage if (entry.member, entry.step) != (member, step)]
            self.metric = self.metric or metric_of(running)
            score, values = score_of(running, self.metric), self._values[member]
            value = written_score(score.value)
            self.lineage.append(Entry(step, member, member, value, score.error, values, values))
            self._write()

    # --- on disk -----------------------------------------------------------------------------------------

    def _write(self) -> None:
        newest, names = self._newest, list(self.spec.vary)
        best = max(newest, key=lambda member: quality(newest[member].score, self.metric), default=None)
        facts = {
            "document": plain(self.spec),
            "template": {"source": self.template.source, "text": self.template.text},
            "metric": self.metric,
            "best": None if best is None else self._path(best).name,
            "lineage": [asdict(entry) for entry in self.lineage],
        }
        write_json(self.directory / POPULATION, facts)
        following = [f"next_{name}" for name in names]
        head = ["step", "member", "parent", self.metric or "score", "standard_error", *names, *following]
        rows = [
            [entry.step, entry.member, entry.parent, entry.score, entry.error]
            + [values[name] for values in (entry.values, entry.next_values) for name in names]
            for entry in self.lineage
        ]
        write_csv(self.directory / LINEAGE, [head, *rows])


def requests_of(spec: PopulationSpec, template: Template | PythonTemplate, **settings: Any) -> list[Request]:
    return [
        _request(spec, template, values, seed=seed, **settings)
        for seed, values in enumerate(initial_values(spec), spec.seed)
    ]


def _request(
    spec: PopulationSpec,
    template: Template | PythonTemplate,
    values: Mapping[str, float],
    **settings: Any,
) -> Request:
    return Request(
        template=template, variant=spec.variant, values={**spec.set, **values}, steps=spec.steps, **settings
    )
