"""The library's scenarios by name: YAML files, and functions of antiphon's own."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from antiphon.base.errors import ScenarioError, suggest
from antiphon.running.python_template import Buildable, PythonTemplate, load_python
from antiphon.scenarios import Scenario, Template, catalogue, library_names, load
from antiphon.scenarios.loading import MADE_IN_PYTHON
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.study_spec import StudySpec

_loaded = cache(load_python)


def scenario_names() -> tuple[str, ...]:
    """Return the names of all scenarios of the library, sorted."""
    return tuple(sorted((*library_names(), *MADE_IN_PYTHON)))


def templates() -> dict[str, Template | PythonTemplate]:
    """Return the templates of all scenarios of the library, by name."""
    documents = catalogue()
    return {name: documents.get(name) or template_named(name) for name in scenario_names()}


def template_named(name: str | Path) -> Template | PythonTemplate:
    if str(name) in MADE_IN_PYTHON:
        return _loaded(MADE_IN_PYTHON[str(name)])
    if str(name) in library_names():
        return load(name)
    if is_document(str(name)):
        fix = "antiphon study or antiphon population runs it"
        raise ScenarioError(f"{name}: is a study or a population, not a scenario; {fix}")
    path = Path(os.path.expanduser(name))
    # that a name exists is False, where it is too long for a file's
    if not path.suffix and path.parent == Path() and not os.path.exists(path):
        names = (*scenario_names(), *PopulationSpec.library_names(), *StudySpec.library_names())
        raise ScenarioError(f"no scenario {str(name)!r}{suggest(str(name), names)}")
    return load(name)


def template_of_document(document: StudySpec | PopulationSpec) -> Template | PythonTemplate:
    return template_named(document.scenario)


def is_document(name: str) -> bool:
    return name in (*PopulationSpec.library_names(), *StudySpec.library_names())


def as_template(scenario: Buildable | Template | str | Path) -> Template | PythonTemplate:
    """Return the template of a scenario as Python has it: a template, a name or file, a scenario, or a function that returns one."""
    if isinstance(scenario, str | Path):
        return template_named(scenario)
    if isinstance(scenario, Template):
        return scenario
    if isinstance(scenario, Scenario) or callable(scenario):
        return PythonTemplate.of(scenario)
    kind = type(scenario).__name__
    raise ScenarioError(f"scenario: must be a scenario, a template, a name or a function, not {kind}")
