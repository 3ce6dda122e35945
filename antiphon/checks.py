"""Checks of scenarios, studies and populations without running them: problems of every variant, else the warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.base.errors import ScenarioError, in_one_line
from antiphon.envs import describe
from antiphon.jobs.sources import scenario_template
from antiphon.jobs.studies.plan import StudyOptions, plan
from antiphon.running.library import scenario_names, template_of_document
from antiphon.running.python_template import Buildable, PythonTemplate
from antiphon.running.request import Request, check_alone
from antiphon.scenarios import DocumentError, Scenario, Template, warnings
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.study_spec import DEFAULT, StudySpec
from antiphon.scenarios.yaml_text import find_document

if TYPE_CHECKING:
    from antiphon.distributed.parts.placement import Division

_MOST_LISTED = 20
"""Variants in a line."""
Divide = Callable[[Iterable[str]], int | dict[str, int] | None]
"""Returns how agents are divided into parts, or their number."""


def check(
    scenario: Buildable | Template | str | Path,
    *,
    variant: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> Findings:
    """Check a scenario without running it, and return its problems and warnings; `print(found)` prints what the command prints.

    Args:
        scenario: A scenario; a template, library name or file; the name or file of a study or population; or a function
            that returns a scenario.
        variant: The variant of the template that is checked; None: all.
        values: Parameter values.

    Returns:
        `ok`; and `problems` and `warnings`, each line with the variants that it is about.

    Raises:
        ScenarioError: There is no such scenario, or no valid YAML.
    """
    return findings_of(scenario, variant, values or {})


@dataclass(repr=False)
class Findings:
    """Result of a check.

    Attributes:
        checked: The variants that were checked, or the labels of a study's runs.
        problems: By message, the variants or runs that have the problem.
        warnings: By message, the variants or runs with the warning, which have no problem.
        placement: The part of each agent, where a division into parts was checked and there is one.
        division: What it cuts.
    """

    name: str
    source: str
    checked: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    placement: Mapping[str, int] | None = None
    division: Division | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """That of the command line."""
        return 0 if self.ok else ScenarioError.exit_code

    def refuse(self, label: str, error: ScenarioError) -> None:
        """Add the problem of one variant or run."""
        self.checked.append(label)
        self.problems.setdefault(str(error), []).append(label)

    def accept(self, label: str, scenario: Scenario) -> None:
        """Add the warnings of one variant or run without problems."""
        self.checked.append(label)
        for line in warnings(scenario):
            self.warnings.setdefault(line, []).append(label)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the result: errors, or warnings and what is accepted."""
        for line, where in self.problems.items():
            only = "" if len(where) in (0, len(self.checked)) else f" (only {_listed(where)})"
            yield in_one_line(f"error: {line}{only}")
        for line, where in self.warnings.items():
            only = "" if len(where) == len(self.checked) else f"{_listed(where)}: "
            yield in_one_line(f"warning: {only}{line}")
        if self.ok:
            variants = [label for label in self.checked if label != DEFAULT]
            checked = f" with variants {_listed(variants)}" if len(self.checked) > 1 else ""
            yield f"{self.source}: ok{checked}"
            yield from [] if self.division is None else ["", str(self.division)]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return the object that `antiphon check --json` prints."""
        problems = [{"problem": line, "variants": where} for line, where in self.problems.items()]
        lines = [{"warning": line, "variants": where} for line, where in self.warnings.items()]
        found = {"scenario": self.name, "ok": self.ok, "checked": self.checked, "problems": problems}
        if self.division is not None:
            found["parts"] = {"placement": self.placement, "division": asdict(self.division)}
        return {**found, "warnings": lines}


def findings_of(
    subject: Buildable | Template | str | Path,
    variant: str | None,
    values: Mapping[str, Any],
    divide: Divide | None = None,
) -> Findings:
    """Return the findings of a scenario, study or population; `divide`: reads the parts of a scenario's agents."""
    named = isinstance(subject, str | Path) and subject not in scenario_names()
    findings = Findings(str(subject), str(subject))
    try:
        if named and (population := find_document(PopulationSpec, str(subject))) is not None:
            _check_population(findings, population, variant=variant, set=values or None)
        elif named and (study := find_document(StudySpec, str(subject))) is not None:
            _check_study(findings, study, StudyOptions(variants=[variant] if variant else [], values=values))
        else:
            _check_scenario(findings, scenario_template(subject), variant, values, divide)
    except DocumentError as error:
        findings.refuse(variant or DEFAULT, error)
    return findings


def _check_scenario(
    findings: Findings,
    template: Template | PythonTemplate,
    variant: str | None,
    values: Mapping[str, Any],
    divide: Divide | None,
) -> None:
    """Check a variant of a template, or all of them; with `divide`, one of them and its division."""
    findings.name, findings.source = template.name, template.source
    only = variant or divide or not template.variants
    for name in [variant] if only else [None, *template.variants]:
        request = Request(template=template, variant=name, values=values)
        scenario = _examine(findings, name or DEFAULT, request)
        if divide is not None and scenario is not None:
            _divide(findings, scenario, divide(scenario.agents))


def _check_study(findings: Findings, study: StudySpec, options: StudyOptions) -> None:
    """Check every run of a study's first budget."""
    findings.name = findings.source = study.study
    planned = plan(study, options)
    for run in planned.runs.values():
        _examine(findings, run.label, run.request)
    if findings.ok:
        planned.check(planned.runs)


def _check_population(findings: Findings, population: PopulationSpec, **changed: Any) -> None:
    """Check the first member of a population, its selection, and that the others differ from it in hyperparameters alone."""
    from antiphon.jobs.populations.population_run import check_selection, requests_of
    from antiphon.jobs.scheduler import check_member

    findings.name = findings.source = population.population
    if changed := {key: value for key, value in changed.items() if value is not None}:
        population = population.with_keys(**changed)
    first, *later = requests_of(population, template_of_document(population))
    scenario = _examine(findings, "member 0", first, alone=False)
    if scenario is not None:
        check_selection(population, scenario)
        for request in later:
            check_member(first, request)


def _examine(findings: Findings, label: str, request: Request, *, alone: bool = True) -> Scenario | None:
    """Add the problems of one run, or its warnings where there are none, and return the scenario without problems.

    A member of a population, which is not `alone`, may meet others.
    """
    from antiphon.engine.build.builder import check_build

    try:
        scenario = request.scenario
        with request.template.placing():
            check_build(scenario, describe(scenario.env))
            if alone:
                check_alone(scenario)
    except ScenarioError as error:
        findings.refuse(label, error)
        return None
    findings.accept(label, scenario)
    return scenario


def _divide(findings: Findings, scenario: Scenario, parts: int | dict[str, int] | None) -> None:
    from antiphon.distributed.parts.placement import Division, placement_for
    from antiphon.terminal.explain import built

    scenario = scenario.with_delay(1)
    system = built(scenario)
    count, placement = (parts, None) if isinstance(parts, int) else (None, parts)
    try:
        findings.placement = placement_for(system, scenario, count, placement)
        findings.division = Division.of(system, findings.placement)
    except ScenarioError as error:
        findings.problems[str(error)] = list(findings.checked)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f", … and {more:,} more" if more > 0 else "")
