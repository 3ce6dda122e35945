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
from antiphon.running.templates import Buildable, Request, scenario_names, template_named
from antiphon.scenarios import Template, warnings
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
        scenario: A scenario; a template, library name or file, also of a study or a population; or a function
            that returns a scenario.
        variant: The variant of the template that is checked; None: all.
        values: Parameter values.

    Returns:
        `ok`; and `problems` and `warnings`, each line with the variants that it is about.

    Raises:
        ScenarioError: There is no such scenario, or no valid YAML.
    """
    source, requests = _requests_of(scenario, variant, values or {})
    from antiphon.engine.build.builder import check_build  # these load torch: a wrong name is told before
    from antiphon.envs.check import broken_rule

    findings = Findings(source)
    for label, request in requests.items():
        try:
            resolved = request.scenario
            with request.template.placing():
                check_build(resolved, describe(resolved.env))
                if (line := broken_rule(resolved.env)) is not None:
                    raise ScenarioError(line)
        except ScenarioError as error:
            findings.problems.setdefault(str(error), []).append(label)
        else:
            for line in warnings(resolved):
                findings.warnings.setdefault(line, []).append(label)
        findings.checked.append(label)
    return findings


@dataclass(repr=False)
class Findings:
    """Result of a check.

    Attributes:
        source: What was checked.
        checked: The variants that were checked.
        problems: By message, the variants that have the problem.
        warnings: By message, the variants with the warning, which have no problem.
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


def _requests_of(
    scenario: Buildable | Template | str | Path, variant: str | None, values: Mapping[str, Any]
) -> tuple[str, dict[str, Request]]:
    """Return what is checked, and the runs of a scenario's variants, of a study, or of a population's first member."""
    if isinstance(scenario, str | Path) and str(scenario) not in scenario_names():
        if (population := find_document(PopulationSpec, scenario)) is not None:
            from antiphon.jobs.populations.population_run import requests_of

            changed = {"variant": variant, "set": {**population.set, **values}}
            population = population.with_keys(**{key: value for key, value in changed.items() if value})
            return str(scenario), {DEFAULT: requests_of(population, template_named(population.scenario))[0]}
        if (study := find_document(StudySpec, scenario)) is not None:
            planned = plan(study, StudyOptions(variants=[variant] if variant else [], values=values))
            return str(scenario), {run.label: run.request for run in planned.runs.values()}
    template = scenario_template(scenario)
    names = [variant] if variant or not template.variants else [None, *template.variants]
    requests = {name or DEFAULT: Request(template=template, variant=name, values=values) for name in names}
    return template.source, requests
