"""Checks of scenarios, studies and populations without running them: problems of every variant, else the warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antiphon.base.errors import ScenarioError
from antiphon.base.table import some
from antiphon.envs import describe
from antiphon.jobs.sources import scenario_template
from antiphon.jobs.studies.plan import StudyOptions, plan
from antiphon.running.library import scenario_names, template_of_document
from antiphon.running.python_template import Buildable
from antiphon.running.request import Request, check_alone
from antiphon.scenarios import DocumentError, Scenario, Template, warnings
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.study_spec import DEFAULT, StudySpec
from antiphon.scenarios.yaml_text import find_document


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
    findings, values = Findings(str(scenario)), values or {}
    named = isinstance(scenario, str | Path) and scenario not in scenario_names()
    try:
        if named and (population := find_document(PopulationSpec, str(scenario))) is not None:
            _check_population(findings, population, variant, values)
        elif named and (study := find_document(StudySpec, str(scenario))) is not None:
            planned = plan(study, StudyOptions(variants=[variant] if variant else [], values=values))
            for run in planned.runs.values():
                _examine(findings, run.label, run.request)
        else:
            template = scenario_template(scenario)
            findings.source = template.source
            for name in [variant] if variant or not template.variants else [None, *template.variants]:
                _examine(findings, name or DEFAULT, Request(template=template, variant=name, values=values))
    except DocumentError as error:
        findings.refuse(variant or DEFAULT, error)
    return findings


@dataclass(repr=False)
class Findings:
    """Result of a check.

    Attributes:
        source: What was checked.
        checked: The variants that were checked, or the labels of a study's runs.
        problems: By message, the variants or runs that have the problem.
        warnings: By message, the variants or runs with the warning, which have no problem.
    """

    source: str
    checked: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)

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

    def lines(self) -> Iterator[str]:
        """Yield the lines of the result: errors, or warnings and what is accepted."""
        for kind, found in (("error", self.problems), ("warning", self.warnings)):
            for line, where in found.items():
                only = "" if len(where) == len(self.checked) else f" (only {some(where)})"
                yield f"{kind}: {line}{only}"
        if self.ok:
            variants = [label for label in self.checked if label != DEFAULT]
            yield f"{self.source}: ok" + (f" with variants {some(variants)}" if variants else "")

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return the object that `antiphon check --json` prints."""
        return {
            "source": self.source,
            "ok": self.ok,
            "checked": self.checked,
            "problems": [{"problem": line, "variants": where} for line, where in self.problems.items()],
            "warnings": [{"warning": line, "variants": where} for line, where in self.warnings.items()],
        }


def _check_population(
    findings: Findings, population: PopulationSpec, variant: str | None, values: Mapping[str, Any]
) -> None:
    """Check the first member of a population, its selection, and that the others differ from it in hyperparameters alone."""
    from antiphon.jobs.populations.population_run import check_selection, requests_of
    from antiphon.jobs.scheduler import check_member

    changed = {"variant": variant, "set": values}
    population = population.with_keys(**{key: value for key, value in changed.items() if value})
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
    from antiphon.envs.check import broken_rule

    try:
        scenario = request.scenario
        with request.template.placing():
            check_build(scenario, describe(scenario.env))
            if alone:
                check_alone(scenario)
            if (line := broken_rule(scenario.env)) is not None:
                raise ScenarioError(line)
    except ScenarioError as error:
        findings.refuse(label, error)
        return None
    findings.checked.append(label)
    for line in warnings(scenario):
        findings.warnings.setdefault(line, []).append(label)
    return scenario
