"""The plan of a study: every line of its table (grid × variants), the values that are tried for it, and its runs."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.problems import show_value
from antiphon.base.spec import plain
from antiphon.jobs.studies.scoring import OF_RESULT, Scoring
from antiphon.running.templates import PythonTemplate, Request, template_named
from antiphon.scenarios import Template
from antiphon.scenarios.scenario import COMPARED
from antiphon.scenarios.study_spec import DEFAULT, StudySpec, VariantSpec

_LONGEST_NAME = 150
"""Characters of a folder's name without the seed, which file systems bear."""


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Settings of a study beside its file.

    Attributes:
        budget: Its name; None: the file's first.
        variants: Some of the study's; empty: all.
        values: Parameters set in every run: they are neither on the grid nor tuned then.
        seeds: In place of the budget's, as are `steps`.
        command: The command line, for run.json.
    """

    budget: str | None = None
    variants: Sequence[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    seeds: int | None = None
    steps: int | None = None
    device: str = "cpu"
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedRuns:
    """Runs that differ in their seed alone, however many lines they serve.

    Attributes:
        name: The name of their directories, without the seed.
        label: The line of the table that they were planned for, in words.
        scorings: The evaluations besides that of result.json.
    """

    name: str
    label: str
    request: Request
    scorings: list[Scoring] = field(default_factory=list)


@dataclass(frozen=True)
class Line:
    """One line of the table, a variant at a point of the grid, and the evaluation that is tabulated."""

    point: Mapping[str, Any]
    variant: str
    scoring: Scoring
    candidates: Mapping[str, Mapping[str, Any]]
    """By the name of runs the values of the tuned parameters; at least one."""


@dataclass(frozen=True)
class StudyPlan:
    spec: StudySpec
    budget: str
    seeds: int
    lines: Sequence[Line]
    """In the order of the table: all variants at a point of the grid before the next point."""
    runs: Mapping[str, PlannedRuns]
    tuned: Mapping[str, Sequence[Any]]
    """Lists of values by parameter, of which each line takes the best."""

    def check(self, runs: PlannedRuns) -> None:
        """Build the scenario of some runs, as each run does when it begins."""
        from antiphon.engine.build.builder import check_build
        from antiphon.envs import describe

        scenario = runs.request.scenario
        with _named(self.spec, runs.request, runs.label):
            check_build(scenario, describe(scenario.env))


def plan(
    spec: StudySpec, options: StudyOptions, template: Template | PythonTemplate | None = None
) -> StudyPlan:
    """Plan every run of a study; None: the template is loaded by the name in the study file.

    ScenarioError where there is no such device, budget, variant, parameter or value; nothing has been run.
    """
    from antiphon.nets.devices import chosen_device

    chosen_device(options.device)
    template = template or template_named(spec.scenario)
    name = options.budget or next(iter(spec.budgets))
    if name not in spec.budgets:
        raise ScenarioError(f"{spec.study} has no budget {name!r}{suggest(name, spec.budgets)}")
    budget, variants = spec.budgets[name], _variants(spec, template, options.variants)
    by_budget = {"steps"} if budget.steps is not None else set[str]()
    fixed = {*budget.set, *options.values, *by_budget}
    grid = {axis: budget.grid.get(axis, values) for axis, values in spec.grid.items()}
    grid = {axis: values for axis, values in grid.items() if axis not in {*options.values, *by_budget}}
    tune = {parameter: values for parameter, values in spec.tune.items() if parameter not in fixed}
    seeds, steps = options.seeds or budget.seeds, options.steps or budget.steps
    lines, runs, names = [], dict[str, PlannedRuns](), dict[str, str]()
    for point, (of_line, variant) in itertools.product(_points(grid), variants.items()):
        scoring = Scoring("test", variant.evaluate or spec.evaluate)
        candidates: dict[str, dict[str, Any]] = {}
        for tuned in _points(tune):
            values = {**spec.set, **budget.set, **point, **variant.set}
            if steps is not None and "steps" not in point:  # the file's are for other budgets
                values.pop("steps", None)
            values |= {**options.values, **tuned}
            request = Request(
                template=template,
                variant=variant.variant,
                values=values,
                steps=steps,
                device=options.device,
                command=options.command,
            )
            words = [f"{axis}={worded(value)}" for axis, value in (*point.items(), *tuned.items())]
            label = " ".join([*words[: len(point)], of_line, *words[len(point) :]])
            with _named(spec, request, label):
                key = str(id(request.scenario)) if request.given_scenario else repr(plain(request.scenario))
            if key not in names:  # lines of an equal scenario share its runs
                names[key] = _free_name(label, runs)
                runs[names[key]] = PlannedRuns(names[key], label, request)
            candidates.setdefault(names[key], tuned)
            scorings = runs[names[key]].scorings
            needed = [scoring, scoring._replace(split="validation")] if tuned else [scoring]
            scorings += [scoring for scoring in needed if scoring != OF_RESULT and scoring not in scorings]
        lines.append(Line(point, of_line, scoring, candidates))
    return StudyPlan(spec, name, seeds, lines, runs, tune)


def _free_name(label: str, runs: Container[str]) -> str:
    stem = re.sub(r"[^A-Za-z0-9._]+", "-", label)[:_LONGEST_NAME].strip("-")
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in runs)


@contextmanager
def _named(spec: StudySpec, request: Request, label: str) -> Iterator[None]:
    """Add the scenario's lines, and of a study with a file of its own the line of its table, to the problems of a run."""
    try:
        with request.template.placing():
            yield
    except ScenarioError as error:
        if spec.study == request.template.name:
            raise
        raise ScenarioError(f"{spec.study}: {label}: {error}") from None


def worded(value: object) -> str:
    """Format a parameter's value, by which lines are told apart: a word as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=show_value)


def _variants(
    spec: StudySpec, template: Template | PythonTemplate, chosen: Sequence[str]
) -> dict[str, VariantSpec]:
    """Return the chosen variants (empty: all), each with the template's variant that it is, if it is one."""
    variants = spec.variants or {name: VariantSpec() for name in template.variants or (DEFAULT, *COMPARED)}
    for name in chosen:
        if name not in variants:
            raise ScenarioError(f"{spec.study} has no variant {name!r}{suggest(name, variants)}")
    return {
        name: variants[name].model_copy(update={"variant": _variant_of(template, name, variants[name])})
        for name in chosen or spec.variants or template.variants or [DEFAULT]
    }


def _variant_of(template: Template | PythonTemplate, name: str, variant: VariantSpec) -> str | None:
    """Return the template's variant that a line is: one that it names, else that of its own name."""
    if variant.variant is not None:
        return None if variant.variant == DEFAULT else variant.variant
    of_channels = name in COMPARED and not variant.set  # a line with values of its own is what these say
    return name if name != DEFAULT and (template.variants or of_channels) else None


def _points(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))
