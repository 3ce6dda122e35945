"""A population's run: a run directory for each member, the selections among them, and their lineage.

`population.json` has the document, the template of the scenario and the lineage; `lineage.csv` is a table of the latter.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from inspect import Parameter
from pathlib import Path
from typing import Any, Self

from antiphon.base.errors import RunError, ScenarioError
from antiphon.base.files import display_path, fitting, write_csv, write_text
from antiphon.base.imports import with_imports
from antiphon.base.manifests import read_checked, write_checked
from antiphon.base.problems import DocumentError, Problems
from antiphon.base.spec import plain
from antiphon.engine.build.builder import build_to_look
from antiphon.engine.state.changes import ELSEWHERE, changed, differences_of
from antiphon.envs import describe
from antiphon.jobs.job import Job
from antiphon.jobs.member_processes import Meeting, alone, divided
from antiphon.jobs.populations.lineage_figure import lineage_svg
from antiphon.jobs.populations.population import Population, member_path
from antiphon.jobs.populations.selection import (
    Entry,
    MemberScore,
    Stage,
    ancestry,
    initial_values,
    last_copies,
    metric_of,
    problem_of_score,
    quality,
    score_of,
    scored_values,
    selected,
    still_to_come,
    written_score,
)
from antiphon.jobs.processes import processes
from antiphon.jobs.scheduler import Scheduler
from antiphon.running.directory import (
    POPULATION,
    RunDirectory,
    claim,
    function_of,
    is_free,
    remove_run,
)
from antiphon.running.lock import DirectoryLock
from antiphon.running.observers import RunProgress
from antiphon.running.python_template import PythonTemplate, load_python
from antiphon.running.request import Request
from antiphon.running.run import Run
from antiphon.running.trainer import Observer, Outcome
from antiphon.scenarios import Template
from antiphon.scenarios.loading import MADE_IN_PYTHON
from antiphon.scenarios.parameters import ParameterSpec
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.telemetry.metrics import Metric

LINEAGE, LINEAGE_FIGURE = "lineage.csv", "lineage.svg"


class PopulationRun(Observer):
    """The runs of a population's members, each in a directory of its own, `member-0` and so on, and the selections among them.

    The selection due after a step is the beginning of the next one: a checkpoint is of the state before it.

    Args:
        exist: Where the folder holds a population already: `resume`, `overwrite` or `error`.
        until: The step to stop at; schedules keep `training.steps`. None: that of the folder while it is ahead, else `training.steps`.
        jobs: The processes that members are divided over; None: one, or as many as the population there had.
        ray: `local`, or HOST:PORT of the Ray cluster that they are on; None: they are on this machine.
        changes: Settings of all members that change from here on, by the names of `Simulation.set`.
        lock: Of its folder; None: it is taken when they are trained.
        settings: Of each member's `Request`: `device`, `backend`, `command`.

    Attributes:
        metric: What they are compared by; None: not known before the first score.
        until: The step they stop at.
        scenario: The scenario of the first member, with all changes.

    Raises:
        ScenarioError: A scenario cannot be resolved or built, or what varies is structure.
        DataError: Its data are missing or broken.
        RunError: The folder holds something else, or members that cannot continue together; nothing has been written.
    """

    def __init__(
        self,
        spec: PopulationSpec,
        template: Template | PythonTemplate,
        directory: Path,
        *,
        exist: str = "error",
        until: int | None = None,
        jobs: int | None = None,
        ray: str | None = None,
        checkpoint_every: int | None = None,
        changes: Mapping[str, Any] | None = None,
        lock: DirectoryLock | None = None,
        **settings: Any,
    ) -> None:
        self.spec, self.template, self.directory, self._ray = spec, template, directory, ray
        self._lock = lock
        self.lineage: list[Entry] = []
        self.metric: str | None = None
        self._meeting: Meeting = alone
        """With the processes of the other members."""
        self._writes = True
        """Whether this process writes the lineage."""
        exists = (directory / POPULATION).is_file()
        before: Mapping[str, Any] = {}
        if exists and exist == "resume":
            before = self._read()
        elif not is_free(directory) and not (exists and exist == "overwrite"):
            raise RunError(
                f"{directory}: already exists and is not empty; choose another name, or --exist resume "
                '(in Python exist="resume")'
            )
        jobs = self._jobs = min(before.get("jobs", 1) if jobs is None else jobs, spec.members)
        if ray is not None and jobs == 1:
            raise RunError("ray: has no effect on one process; give 2 or more jobs")
        if jobs > 1 and isinstance(template, PythonTemplate) and not template.importable:
            line = f"{template.source} cannot be imported by other processes; put it into a module"
            raise RunError(f"jobs {jobs}: {line}")
        requests = requests_of(spec, template, **settings)
        how: Any = {"exist": exist, "checkpoint_every": checkpoint_every}
        self._changes = {**before.get("changes", {}), **(changes or {})}
        """Settings that have changed since the population began."""
        how["changes"] = self._changes
        for name in changes or ():
            self._check_change(name, requests[0])
        members = self._members(requests, until, before.get("until"), how)
        self.scheduler = Scheduler(members, None if spec.select is None else self)
        self.until = self.scheduler.until
        self.scenario = changed(requests[0].scenario, self._changes.items())
        if spec.select is not None and spec.select.by is not None:
            system = build_to_look(self.scenario, describe(self.scenario.env))
            if line := problem_of_score(self.scenario, system, spec.select.by):
                raise spec.located(DocumentError(("select", "by"), line))
        if isinstance(template, PythonTemplate) and spec.population == template.name:  # as a study is called
            self.spec = spec.with_keys(population=self.scenario.scenario)
        if jobs > 1 and getattr(requests[0].scenario.env, "league", False):
            raise RunError(f"jobs {jobs}: the members of a league meet in one process; leave it out")
        evaluate = requests[0].scenario.training.evaluate
        if jobs > 1 and spec.select is not None and evaluate is not None and evaluate.patience:
            line = (
                "`select` compares members after each step, and `training.evaluate.patience` ends some early"
            )
            raise RunError(f"jobs {jobs}: {line}; leave out one of the three")
        done = max(job.saved for job in members)
        if until is not None and until < done:
            raise RunError(
                f"{directory}: has done {done:,} steps already, and cannot stop at {until:,}; give more"
            )

    def _members(
        self, requests: Sequence[Request], until: int | None, earlier: int | None, how: Mapping[str, Any]
    ) -> list[Job]:
        """Return the jobs of the members, until a step that is given now, or was `earlier` and is ahead, or until their steps."""
        stop = earlier if until is None else until
        jobs = [
            Job(request, self._path(member), until=stop, **how) for member, request in enumerate(requests)
        ]
        if until is None and all(job.step == job.until < job.request.scenario.training.steps for job in jobs):
            return [Job(request, self._path(member), **how) for member, request in enumerate(requests)]
        return jobs

    @classmethod
    def of_directory(cls, directory: Path, python: str | None = None, **settings: Any) -> Self:
        """Return the population of a folder, to continue it.

        Args:
            python: MODULE:FUNCTION of its scenario, which is needed if that was made in Python.
            settings: `until`, `jobs`, `ray`, `checkpoint_every` and `changes` (see above).

        Raises:
            RunError: It is damaged or has gone further, or `python` is needed.
        """
        file = directory / POPULATION
        facts = read_checked(file)
        with fitting(file):
            spec, template = PopulationSpec(**facts["document"]), facts["template"]
            text, source = str(template["text"]), str(template["source"])
        first: RunDirectory | None = None
        for member in sorted(directory.glob("member-*"))[:1]:  # all have these from the first run on
            first = RunDirectory.open(member)
            settings |= {name: first.facts[name] for name in ("device", "backend")}
        if python is None and source in MADE_IN_PYTHON.values():
            python = source
        if python is None and not text:
            where = "" if first is None else first.of_modules
            raise RunError(
                f"{directory}: its scenario was made in Python; add --scenario {function_of(source)}{where}"
            )
        with nullcontext() if first is None else first.importing():
            loaded = Template.from_yaml(text, source) if python is None else load_python(python)
        return cls(spec, loaded, directory, exist="resume", **settings)

    def _check_change(self, name: str, first: Request) -> None:
        """Raise ScenarioError where a setting cannot change, or differs between the members."""
        change = [(name, self._changes[name])]
        as_changed = changed(first.scenario, change)
        for varied, within in self.spec.vary.items():
            for value in within if isinstance(within, tuple) else (within.low, within.high):
                other = _request(self.spec, self.template, {**first.values, varied: value}).scenario
                if differences_of(first.scenario, other) != differences_of(
                    as_changed, changed(other, change)
                ):
                    raise ScenarioError(
                        f"set: {name}: differs between members, since {varied} varies; leave it out"
                    )

    def train(self, progress: RunProgress | None = None) -> dict[str, Any]:
        """Train to the end, or until a signal, and return the result as plain data; RunError where it cannot be written."""
        lock, self._lock = self._lock, None  # it does not go with the work to processes
        with lock or DirectoryLock(self.directory):
            for path in set(self.directory.glob("member-*")) - {job.path for job in self.scheduler.jobs}:
                remove_run(path)  # of a larger population that is overwritten
            start = self.scheduler.start
            if self._jobs > 1:
                outcomes = self.scheduler.train(train_group=partial(self._train_divided, progress))
                start = self.until  # the rest is of the first process
            self._begin(start)
            try:
                if self._jobs == 1:
                    shown = [] if progress is None else [progress]
                    outcomes = self.scheduler.train(*shown, self)
            finally:
                self._finish()
        newest, values, copies = self._newest, self._values, last_copies(self.lineage)
        members: list[dict[str, Any]] = [
            {
                "member": member,
                **{key: outcome.result.get(key) for key in ("seed", "exit", "steps", "seconds", "run_dir")},
                "score": newest[member].score if member in newest else None,
                "error": newest[member].error if member in newest else 0.0,
                "values": values[member],
                "copied_from": copies[member].parent if member in copies else None,
                "copied_at": copies[member].step if member in copies else None,
            }
            for member, outcome in (
                (seed - self.spec.seed, outcome) for seed, outcome in outcomes.by_seed.items()
            )
        ]
        done = [member for member in members if member["exit"] == "done"]
        return {
            "population": self.spec.population,
            "metric": self.metric,
            "run_dir": display_path(self.directory),
            "best": max(done, key=lambda member: quality(member["score"], self.metric), default=None),
            "members": members,
            "to_come": still_to_come(
                self.spec,
                [outcome.result for outcome in outcomes.by_seed.values()],
                self.scenario.training.steps,
            ),
            "apart": outcomes.sequential_reason,
            "exit_code": outcomes.exit_code,
        }

    @property
    def _values(self) -> list[dict[str, float]]:
        """By member, the present values of the parameters that vary."""
        values_by_member = initial_values(self.spec)
        for entry in self.lineage:
            values_by_member[entry.member] = entry.values
        return values_by_member

    @property
    def _newest(self) -> dict[int, Entry]:
        return {entry.member: entry for entry in self.lineage}

    def _path(self, member: int) -> Path:
        return member_path(self.directory, member, self.spec.members)

    # --- several processes -------------------------------------------------------------------------------

    def _train_divided(self, progress: RunProgress | None, group: Sequence[Job]) -> list[Outcome]:
        """Train members in processes of their own, and take over what these have selected."""

        def on_step() -> None:
            if progress is not None:
                progress.progress.advance(len(group) / self.spec.members)

        device, count = group[0].request.device, min(self._jobs, len(group))
        members = [job.request.seed - self.spec.seed for job in group]
        work = partial(self._train_share, members)
        with processes(self._ray, count, device) as pool:
            how: dict[str, Any] = {
                "device": device,
                "together": self.spec.select is not None,
                "on_step": on_step,
            }
            results = divided(str(self.directory), work, members, pool, count, **how)
        if progress is not None:
            progress.progress.close()
        outcomes, lineages, metrics = zip(*results, strict=True)
        self.metric, self.lineage = metrics[0], lineages[0]
        in_first = {(entry.step, entry.member) for entry in self.lineage}
        for lineage in lineages[1:]:  # which has the ends of other members
            self.lineage += [entry for entry in lineage if (entry.step, entry.member) not in in_first]
        return [outcome for share in outcomes for outcome in share]

    def _train_share(
        self, members: Sequence[int], share: Sequence[int], meeting: Meeting
    ) -> tuple[list[Outcome], list[Entry], str | None]:
        """Train a share of the members of a group in a process of its own; the one with the first share writes the lineage."""
        self._meeting, self._writes = meeting, share[0] == members[0]
        self._begin(self.scheduler.start)
        try:
            jobs_of_share = [self.scheduler.jobs[member] for member in share]
            jobs_of_group = [self.scheduler.jobs[member] for member in members]
            outcomes = self.scheduler.train_group(jobs_of_share, [self], self, jobs_of_group)
        finally:
            if self._writes:
                self._finish()
        return outcomes, self.lineage, self.metric

    # --- between steps -----------------------------------------------------------------------------------

    def before(self, population: Population, step: int) -> None:
        select = self.spec.select
        if select is None:
            return
        if self.metric is None:
            running = population.runs[0].running
            self.metric = select.by or metric_of(running)
            if line := problem_of_score(running.scenario, running.system, self.metric):
                raise self.spec.located(DocumentError(("select", "by"), line))
        if step and step % select.every == 0:
            self._select(population, step)

    def _indices(self, population: Population) -> dict[int, int]:
        """By member of this process, its index in the population of the process."""
        return {run.running.seed - self.spec.seed: index for index, run in enumerate(population.runs)}

    def _select(self, population: Population, step: int) -> None:
        assert self.spec.select is not None
        indices = self._indices(population)
        own_scores = {member: self._score(population.runs[index]) for member, index in indices.items()}
        scores_by_member = self._meeting(own_scores, range(self.spec.members))
        scores = [MemberScore(*scores_by_member[member]) for member in range(self.spec.members)]
        entries = selected(self.spec, self.spec.select, step, self.metric, scores, self._values)
        copied = [entry for entry in entries if entry.copied]
        parents = {entry.member: entry.parent for entry in copied}
        states = self._states(indices, parents, population.learned)
        for entry in copied:
            if entry.member in indices:
                population.load_learned(indices[entry.member], states[entry.parent])
                self._explore(population, indices[entry.member], entry, f"copied from member {entry.parent}")
        self.lineage += [entry for entry, score in zip(entries, scores, strict=True) if not score.ended]
        self._write()
        for member, index in indices.items():
            if scores[member].ended:
                continue
            rows = [Metric("run", "", name, value) for name, value in entries[member].values.items()]
            population.runs[index].log(step, rows)

    def after(self, population: Population, step: int) -> None:
        """Let members that have diverged at a step continue as copies of the best that has not; if all have, none can."""
        runs, indices, newest = population.runs, self._indices(population), self._newest
        errors = {member: runs[index].running.diverged for member, index in indices.items()}
        diverged = self._meeting(
            {member: error for member, error in errors.items() if error is not None}, None
        )
        ended = {member for member, index in indices.items() if runs[index].stop_reason is not None}
        healthy = [member for member in range(self.spec.members) if member not in {*diverged, *ended}]
        if self.spec.select is None or not diverged or not healthy:
            return
        scores = {member: newest[member].score for member in healthy if member in newest}
        parent = max(healthy, key=lambda member: quality(scores.get(member), self.metric))
        states = self._states(indices, dict.fromkeys(diverged, parent), population.whole)
        for member in diverged:
            entry = Entry(step, member, parent, None, 0.0, self._values[parent])
            if member in indices:
                population.revive(indices[member], step + 1, states[parent])
                line = f"copied from member {parent} since it diverged ({diverged[member]})"
                self._explore(population, indices[member], entry, line)
            self.lineage.append(entry)
        self._write()

    def _states(
        self, indices: Mapping[int, int], parents: Mapping[int, int], state_of: Callable[[int], Any]
    ) -> Mapping[int, Any]:
        """Return the states that members of this process are copied from, by parent; `parents` has those of all processes."""
        states = {parent: state_of(indices[parent]) for parent in {*parents.values()} if parent in indices}
        return self._meeting(states, {parent for member, parent in parents.items() if member in indices})

    def _explore(self, population: Population, index: int, entry: Entry, line: str) -> None:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in entry.values.items())
        scenario = changed(_request(self.spec, self.template, entry.values).scenario, self._changes.items())
        population.explore(index, scenario, f"{line}; continues with {shown}")

    def _score(self, run: Run) -> MemberScore:
        running = run.running
        if self.metric is None:
            self.metric = metric_of(running)
        newest = self._newest.get(running.seed - self.spec.seed)
        if run.stop_reason is not None and newest is not None and newest.step == running.now:
            return MemberScore(newest.score, newest.error, ended=True)
        return score_of(running, self.metric)

    def end(self, run: Run, outcome: Outcome) -> None:
        if outcome.status == "done":
            member, step = run.running.seed - self.spec.seed, run.running.now
            self.lineage = [entry for entry in self.lineage if (entry.member, entry.step) != (member, step)]
            score = self._score(run)
            value = written_score(score.value)
            entry = Entry(step, member, member, value, score.error, self._values[member])
            self.lineage.append(entry)
            self._write()

    # --- on disk -----------------------------------------------------------------------------------------

    def _begin(self, step: int) -> None:
        """Begin to write at a step of a run: what an earlier session wrote after it is dropped, but for the ends of members."""
        self.lineage = [entry for entry in self.lineage if entry.step < step or step == self.until]
        self._write()

    def _finish(self) -> None:
        """Draw the lineage."""
        write_text(self.directory / LINEAGE_FIGURE, lineage_svg(self.lineage, self.spec, self.metric))

    def _read(self) -> dict[str, Any]:
        """Take over the lineage of an earlier session, and return its facts; RunError where it is another population's."""
        file = self.directory / POPULATION
        facts = read_checked(file)
        with fitting(file):
            saved, document = facts["document"], plain(self.spec)
            compared = dict.fromkeys([*saved, *document])
            if not facts["template"]["text"] and isinstance(self.template, PythonTemplate):
                # a module may have been renamed: what it makes is compared by each member
                compared = dict.fromkeys(key for key in compared if key not in ("population", "scenario"))
            differing = [key for key in compared if saved.get(key) != document.get(key)]
            self.metric, self.lineage = facts["metric"], [Entry(**entry) for entry in facts["lineage"]]
        if differing:
            fix = "choose another name"
            if differing == ["steps"]:
                resume = f"antiphon resume {shlex.quote(display_path(self.directory))}"
                if not facts["template"]["text"]:
                    resume += f" --scenario {function_of(str(facts['template']['source']))}"
                resume += f" --steps {self.spec.steps}"
                fix += f", or go on: {with_imports(resume)} (in Python until={self.spec.steps}, and steps as before)"
            raise RunError(
                f"{self.directory}: holds another population ({differing[0]} is {saved.get(differing[0])}, not "
                f"{document.get(differing[0])}); {fix}"
            )
        return facts

    def _write(self) -> None:
        if not self._writes:
            return
        newest, names = self._newest, list(self.spec.vary)
        best = max(newest, key=lambda member: quality(newest[member].score, self.metric), default=None)
        facts = {
            "document": plain(self.spec),
            "template": {"source": self.template.source, "text": self.template.text},
            "metric": self.metric,
            "until": self.until,
            "best": None if best is None else self._path(best).name,
            "jobs": self._jobs,
            "changes": self._changes,
            "lineage": [asdict(entry) for entry in self.lineage],
        }
        write_checked(self.directory / POPULATION, facts)
        following = [f"next_{name}" for name in names]
        head = ["step", "member", "parent", self.metric or "score", "standard_error", *names, *following]
        rows = [
            [entry.step, entry.member, entry.parent, entry.score, entry.error]
            + [values[name] for values in (scored, entry.values) for name in names]
            for entry, scored in scored_values(self.spec, self.lineage)
        ]
        write_csv(self.directory / LINEAGE, [head, *rows])


@dataclass(frozen=True)
class Standings:
    """A population's members.

    Attributes:
        metric: What members are compared by; None: not known yet.
        members: The members, best first: run directory and newest entry.
        copies: By member, the entry at which it was last replaced; none of those that never were.
        ancestry: The winner's stages, from the beginning.
        to_come: Where it was stopped, in words (`still_to_come`).
    """

    name: str
    metric: str | None
    members: Sequence[tuple[Path, Entry]]
    copies: Mapping[int, Entry]
    ancestry: Sequence[Stage]
    to_come: str


@contextmanager
def new_population(
    spec: PopulationSpec,
    template: Template | PythonTemplate,
    directory: Path,
    exist: str,
    **settings: Any,
) -> Iterator[PopulationRun]:
    """Yield a population's run; with `exist="number"` nobody else takes its folder, which may be one numbered after `directory`."""
    lock: DirectoryLock | None = None
    if exist == "number":
        (directory, lock), exist = claim("population", directory), "error"
    with lock or nullcontext():
        yield PopulationRun(spec, template, directory, exist=exist, lock=lock, **settings)


def standings(directory: Path) -> Standings:
    file = directory / POPULATION
    facts = read_checked(file)
    with fitting(file):
        spec, metric = PopulationSpec(**facts["document"]), facts["metric"]
        entries = [Entry(**entry) for entry in facts["lineage"]]
        newest = {entry.member: entry for entry in sorted(entries, key=lambda entry: entry.step)}
        ordered = sorted(newest.values(), key=lambda entry: -quality(entry.score, metric))
        members = [(member_path(directory, entry.member, spec.members), entry) for entry in ordered]
        past = ancestry(spec, entries, metric)
        runs = [RunDirectory.open(path) for path, _ in members]
        steps = max((run.values["training"]["steps"] for run in runs), default=0)
        to_come = still_to_come(spec, [{**run.facts, "steps": run.facts["step"]} for run in runs], steps)
        return Standings(spec.population, metric, members, last_copies(entries), past, to_come)


def requests_of(spec: PopulationSpec, template: Template | PythonTemplate, **settings: Any) -> list[Request]:
    """Return the request of each member of a population, with its initial values."""
    problems_of_parameters(spec, template).raise_any()
    values_by_member = enumerate(initial_values(spec))
    return [
        _request(spec, template, values, seed=spec.seed + member, **settings)
        for member, values in values_by_member
    ]


def problems_of_parameters(spec: PopulationSpec, template: Template | PythonTemplate) -> Problems:
    """Return what the scenario's parameters refuse of `vary` and `set`, with their lines in the file."""
    return Problems(map(spec.located, _refused(spec, template)))


def _refused(spec: PopulationSpec, template: Template | PythonTemplate) -> Iterator[DocumentError]:
    for key, names in (("vary", spec.vary), ("set", spec.set)):
        for name in names:
            if isinstance(template, Template) and name not in template.parameters:
                yield DocumentError((key, name), str(template.problem_of_value(name, None)))
    for name, within in spec.vary.items():
        parameter, problem = template.parameters.get(name), None
        ends = within if isinstance(within, tuple) else (within.low, within.high)
        if isinstance(parameter, ParameterSpec):
            problem = next(filter(None, map(parameter.problem, ends)), None)
        if _is_whole(parameter, ends):
            problem = f"is a whole number: structure, which cannot vary within a population; {ELSEWHERE}"
        if problem is not None:
            yield DocumentError(("vary", name), problem)


def _is_whole(parameter: ParameterSpec | Parameter | None, values: Sequence[float]) -> bool:
    """Whether a parameter is a whole number; of a Python function by its annotation, without one by its default and `values`."""
    if isinstance(parameter, Parameter):
        if parameter.annotation is parameter.empty:
            return type(parameter.default) is int and all(float(value).is_integer() for value in values)
        return parameter.annotation in (int, "int")
    return parameter is not None and parameter.type == "int"


def _request(
    spec: PopulationSpec,
    template: Template | PythonTemplate,
    values: Mapping[str, float],
    **settings: Any,
) -> Request:
    """Return the request of a member with values of the parameters that vary."""
    of_all: dict[str, Any] = {"template": template, "variant": spec.variant, "steps": spec.steps}
    return Request(values={**spec.set, **values}, **of_all, **settings)
