"""From a study's document to its runs: every line of the table, what is tried for it, and each run once."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from antiphon.engine.runs.library import template_named
from antiphon.engine.runs.python_template import PythonTemplate
from antiphon.engine.runs.request import Request
from antiphon.engine.studies.scoring import Scoring
from antiphon.errors import ScenarioError, suggest
from antiphon.extensions import name_of
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.agent_specs import ObjectiveSpec
from antiphon.scenarios.problems import show_value
from antiphon.scenarios.study import DEFAULT, BudgetSpec, PaperSpec, RowSpec, StudySpec, VariantSpec
from antiphon.scenarios.training import OF_AGENTS, OF_KIND, OF_TRAINING, split_metric

__all__ = ["Candidate", "Line", "Plan", "PlannedRun", "StudyOptions", "Templates", "plan", "worded"]


_MOST_LINES, _MOST_RUNS = 3_000, 20_000
"""Of a study: lines of the table (each value that is tuned counted), and runs."""
_MOST_SECONDS = 5.0
"""In which the scenarios of a study are made."""
_SECONDS, _SECONDS_EACH = 2e-3, 7e-5
"""In which a scenario is made: for itself, and for each agent and channel."""

Templates = Mapping[str, Template | PythonTemplate]
"""By the name that rows give them."""


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What is set of a study beside its document; seeds and steps in place of the budget's."""

    budget: str | None = None
    """Its name; None: the document's first."""
    variants: Sequence[str] = ()
    """Some of the study's; empty: all."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Parameters set in every run: they are neither on the grid nor tuned then."""
    seeds: int | None = None
    steps: int | None = None
    device: str = "cpu"
    command: tuple[str, ...] = ()
    """The command line, for the record."""


@dataclass
class PlannedRun:
    """One run, whatever number of lines it serves."""

    name: str
    """Of its directory."""
    label: str
    """What progress calls it."""
    seed: int
    request: Request
    scorings: list[Scoring] = field(default_factory=list)
    """How it is to be scored, beside on the test split over perfect links."""


@dataclass(frozen=True)
class Candidate:
    """Values that are tried for a line."""

    values: Mapping[str, Any]
    """Of the parameters that are tuned; empty where none is."""
    runs: Mapping[int, str]
    """Names of the runs by seed."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    row: str
    """The row of the document it is of, by name."""
    point: Mapping[str, Any]
    """Its values on the grid."""
    variant: str
    scoring: Scoring
    paper: tuple[float, PaperSpec] | None
    """What a paper reports; value and how sure."""
    candidates: Sequence[Candidate]
    """What is tried for it, at least one."""

    @property
    def group(self) -> tuple[str, str]:
        """What it shares with the lines that it is compared with: all but the variant."""
        return self.row, json.dumps(dict(self.point), sort_keys=True)


@dataclass(frozen=True)
class Plan:
    """All of a study."""

    spec: StudySpec
    budget: str
    seeds: int
    lines: Sequence[Line]
    """In the order of the table."""
    runs: Mapping[str, PlannedRun]
    """By name, all of a seed before the next seed."""
    tuned: Mapping[str, Sequence[Any]]
    """Lists of values, by parameter, of which each line takes the best."""
    fixed: Sequence[str]
    """Parameters that the document tunes, and this budget does not."""

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """What is tabulated: what the document says, or the metric of the first run's readouts (or their loss)."""
        if self.spec.metric:
            return self.spec.metric
        scenario = next(iter(self.runs.values())).request.scenario
        objectives = [scenario.agents[name].objective for name in scenario.readouts]
        kinds = {name_of(objective.kind) for objective in objectives if objective is not None}
        return (_metrics_of(objectives[0])[0] if len(kinds) == 1 and objectives[0] is not None else "loss",)

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The axes of all grids."""
        return tuple(dict.fromkeys(axis for line in self.lines for axis in line.point))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """How many steps runs take: the different numbers, rising."""
        first = [run.request.scenario for run in self.runs.values() if not run.seed]
        return tuple(sorted({scenario.training.steps for scenario in first}))

    @property
    def x(self) -> str | None:
        """The axis that the figure runs along: the one that is asked for, or the only one there is."""
        wanted = self.spec.figure.x if self.spec.figure else None
        if wanted in self.axes:
            return wanted
        return self.axes[0] if len(self.axes) == 1 else None

    @property
    def several(self) -> bool:
        """Whether there are lines of more than one row of the document."""
        return len({line.row for line in self.lines}) > 1


def plan(spec: StudySpec, options: StudyOptions, templates: Templates | None = None) -> Plan:
    """Work out every run of a study; templates by the name that rows give them, others are loaded.

    ScenarioError where there is no such budget, variant, parameter or value; nothing has been run.
    """
    name, budget = _budget(spec, options)
    rows = [row for row in spec.rows if not row.budgets or name in row.budgets]
    loaded = {
        row.scenario: (templates or {}).get(row.scenario) or template_named(row.scenario) for row in rows
    }
    titles = [row.name or loaded[row.scenario].name for row in rows]
    counts = Counter(titles)
    for title in titles:
        if counts[title] > 1:
            raise ScenarioError(f"{spec.study}: two rows are called {title!r}; give one of them a name")
    every = [variants_of(spec, row, loaded[row.scenario]) for row in rows]
    known = {name for variants in every for name in variants}
    for variant in options.variants:
        if variant not in known:
            raise ScenarioError(f"{spec.study} has no variant {variant!r}{suggest(variant, known)}")
    builder = _Builder(spec, options, budget, len(rows) > 1)
    for row, title, variants in zip(rows, titles, every, strict=True):
        builder.add(row, title, loaded[row.scenario], variants)
    if not builder.lines:
        raise ScenarioError(f"{spec.study}: the budget {name!r} has no rows; choose another")
    runs = dict(sorted(builder.runs.items(), key=lambda item: item[1].seed))
    tuned = {parameter: values for row in rows for parameter, values in spec.tune_of(row).items()}
    fixed = [parameter for parameter in tuned if parameter in {*budget.set, *options.values}]
    tuned = {parameter: values for parameter, values in tuned.items() if parameter not in fixed}
    return Plan(spec, name, options.seeds or budget.seeds, builder.lines, runs, tuned, fixed)


def variants_of(
    spec: StudySpec, row: RowSpec, template: Template | PythonTemplate
) -> Mapping[str, VariantSpec]:
    """Return the variants of a row, each with the template's variant that it is, if it is one."""
    named = spec.variants_of(row)
    if named is None:
        named = {name: VariantSpec() for name in template.variants} or {DEFAULT: VariantSpec()}
    found = {}
    for name, variant in named.items():
        own = variant.variant or (name if template.variants else None)
        if own is not None and own not in template.variants:
            known = suggest(own, template.variants)
            raise ScenarioError(
                f"{spec.study}: variant {name!r}: {template.name} has no variant {own!r}{known}"
            )
        found[name] = variant.model_copy(update={"variant": own})
    return found


def _budget(spec: StudySpec, options: StudyOptions) -> tuple[str, BudgetSpec]:
    name = options.budget or next(iter(spec.budgets))
    if name not in spec.budgets:
        alone = list(spec.budgets) == [DEFAULT]
        known = "; a scenario has none: say --steps and --seeds" if alone else suggest(name, spec.budgets)
        raise ScenarioError(f"{spec.study} has no budget {name!r}{known}")
    return name, spec.budgets[name]


def worded(value: object) -> str:
    """Write a parameter's value as people do: a word as it is, anything else as in YAML."""
    return value if isinstance(value, str) else show_value(value)


class _Builder:
    """Collects lines and runs; equal runs are one."""

    def __init__(self, spec: StudySpec, options: StudyOptions, budget: BudgetSpec, several: bool) -> None:
        self.spec, self.options, self.budget, self.several = spec, options, budget, several
        self.lines: list[Line] = []
        self.runs: dict[str, PlannedRun] = {}
        self._names: dict[tuple[str, int], str] = {}
        self._lines, self._seconds = 0, 0.0

    def add(
        self,
        row: RowSpec,
        title: str,
        template: Template | PythonTemplate,
        variants: Mapping[str, VariantSpec],
    ) -> None:
        """Add the lines of one row of the document: all variants at a point before the next point."""
        options, budget = self.options, self.budget
        fixed = {*budget.set, *options.values}
        axes = {name: values for name, values in self.spec.grid_of(row).items() if name not in options.values}
        grid = {axis: budget.grid.get(axis, values) for axis, values in axes.items()}
        tune = {name: values for name, values in self.spec.tune_of(row).items() if name not in fixed}
        chosen = [name for name in variants if not options.variants or name in options.variants]
        self._count(len(chosen) * prod(len(values) for values in (*grid.values(), *tune.values())))
        for point in _product(grid):
            for name, variant in variants.items():
                if options.variants and name not in options.variants:
                    continue
                values = {**self.spec.set, **row.set, **budget.set, **point, **variant.set, **options.values}
                evaluate = variant.evaluate or self.spec.evaluate
                metric = next(iter(self.spec.metric), "")
                split = "train" if metric in OF_TRAINING else "test"
                scoring = Scoring(split, evaluate.links, evaluate.drop, excess=metric == "excess_loss")
                words = [title] if self.several else []
                words += [f"{axis}={worded(value)}" for axis, value in point.items()] + [name]
                candidates = [
                    Candidate(tuned, self._runs(template, variant, values, words, tuned, scoring))
                    for tuned in _product(tune)
                ]
                self.lines.append(Line(title, point, name, scoring, _paper(row, name, point), candidates))

    def _count(self, lines: int) -> None:
        """Count lines of the table, each with what is tuned, before they are made; refuse too many."""
        self._lines += lines
        runs = self._lines * (self.options.seeds or self.budget.seeds)
        if self._lines > _MOST_LINES or runs > _MOST_RUNS:
            raise ScenarioError(
                f"{self.spec.study}: {self._lines:,} lines, {runs:,} runs; a study has at most {_MOST_LINES:,} and "
                f"{_MOST_RUNS:,}: take fewer values, variants or seeds"
            )

    def _runs(
        self,
        template: Template | PythonTemplate,
        variant: VariantSpec,
        values: Mapping[str, Any],
        words: Sequence[str],
        tuned: Mapping[str, Any],
        scoring: Scoring,
    ) -> dict[int, str]:
        """Return the names of a candidate's runs by seed; a run that is there already serves again."""
        label = [*words, *(f"{name}={worded(value)}" for name, value in tuned.items())]
        scorings = [scoring, *([Scoring("validation", scoring.links, scoring.drop)] if tuned else [])]
        found, same = {}, ""
        for seed in range(self.options.seeds or self.budget.seeds):
            follows = {} if self.spec.seed_as is None else {self.spec.seed_as: seed}
            request = Request(
                template=template,
                variant=variant.variant,
                values={**values, **tuned, **follows},
                steps=self.options.steps or self.budget.steps,
                seed=seed,
                device=self.options.device,
                command=self.options.command,
            )
            if follows or not same:
                scenario = self._scenario(request, label)
                self._seconds += _SECONDS + _SECONDS_EACH * (len(scenario.agents) + len(scenario.channels))
                if self._seconds > _MOST_SECONDS:
                    message = (
                        f"its runs take more than {_MOST_SECONDS:g} s to be made, from {' '.join(label)} on"
                    )
                    raise ScenarioError(f"{self.spec.study}: {message}; divide it into several studies")
                same = str(id(scenario)) if request.given else repr(scenario)
            key = (same, seed)
            if key not in self._names:
                name = self._names[key] = self._name(label, seed)
                self.runs[name] = PlannedRun(name, " ".join(label), seed, request)
            run = self.runs[self._names[key]]
            run.scorings += [s for s in scorings if not s.plain and s not in run.scorings]
            found[seed] = run.name
        return found

    def _scenario(self, request: Request, label: Sequence[str]) -> Scenario:
        """Resolve a run's scenario, or say which run it is that cannot be."""
        try:
            _metrics_are_there(self.spec, request.scenario)
            return request.scenario
        except ScenarioError as error:
            if self.spec.study == request.template.name:
                raise
            raise ScenarioError(f"{self.spec.study}: {' '.join(label)}: {error}") from None

    def _name(self, label: Sequence[str], seed: int) -> str:
        """Return the name of a new run's directory: `depth-3-locked-s0`."""
        stem = "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", word).strip("-") for word in label)
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        return next(name for stem in names if (name := f"{stem}-s{seed}") not in self.runs)


def _metrics_are_there(spec: StudySpec, scenario: Scenario) -> None:
    """Refuse a metric or curve of an agent that there is not, or that its objective does not have."""
    goals = {name: a.objective for name, a in scenario.agents.items() if a.objective is not None}
    for key, metrics in (("metric", spec.metric), ("curves", spec.curves)):
        for metric in metrics:
            agent, what = split_metric(metric)
            if agent is not None and agent not in goals:
                known = suggest(agent, goals)
                raise ScenarioError(f"{key}: {metric}: no agent {agent!r} with an objective{known}")
            for name in scenario.readouts if agent is None and what in OF_AGENTS else (agent,):
                if name is not None and what not in (*_metrics_of(goals[name]), "loss"):
                    known = suggest(what, (*_metrics_of(goals[name]), "loss"))
                    raise ScenarioError(
                        f"{key}: {metric}: {name} has none, it is for {name_of(goals[name].kind)}{known}"
                    )


def _metrics_of(objective: ObjectiveSpec) -> tuple[str, ...]:
    """The metrics of an objective beside its loss, its own first."""
    if isinstance(objective.kind, str) and objective.kind in OF_KIND:
        return OF_KIND[objective.kind]
    from antiphon.agents.objectives import objective_of  # with torch

    return (objective_of(objective.kind, objective.options).metric,)


def _product(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield every combination of values, the last axis fastest; one empty combination of no axes."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _paper(row: RowSpec, variant: str, point: Mapping[str, Any]) -> tuple[float, PaperSpec] | None:
    found = ((paper.at(point), paper) for paper in row.paper if paper.variant == variant)
    return next(((value, paper) for value, paper in found if value is not None), None)
