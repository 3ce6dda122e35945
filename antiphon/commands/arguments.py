"""Parsing of command-line arguments: scenarios, values, directories."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.library import MADE_IN_PYTHON, scenario_names, template_named
from antiphon.engine.runs.python_template import PythonTemplate, load_python
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Scenario, Template, TrainingSpec, load
from antiphon.scenarios.spec import plain
from antiphon.scenarios.yaml_text import read

__all__ = [
    "given_scenario",
    "given_template",
    "logdir_root",
    "new_directory",
    "scenario_template",
    "template_to_show",
    "values_of",
]

_DIRECTORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def scenario_template(name: str) -> Template | PythonTemplate:
    """Return the template of a library name, a YAML file or a run directory (its resolved scenario).

    Raises:
        ScenarioError: There is no such template.
        RunError: It is a run whose scenario holds Python objects.
    """
    if name in scenario_names() or not (Path(name) / "scenario.yaml").is_file():
        return template_named(name)
    if (Path(name) / "run.json").is_file():
        directory = RunDirectory.open(name)
        scenario = given_scenario(directory, None)
        if scenario is not None:
            return PythonTemplate(base=scenario, source=name)
        directory.check_document()
    return load(Path(name) / "scenario.yaml")


def given_template(verb: str, name: str | None, python: str | None) -> Template | PythonTemplate:
    """Return the template of a name or of `--scenario`, of which just one must be given.

    Raises:
        ScenarioError: Both are given or neither, or there is no such template.
    """
    if (name is None) == (python is None):
        found = "give a scenario's name, or --scenario MODULE:FUNCTION"
        raise ScenarioError(
            f"{verb}: {found if name is None else f'{name} and --scenario exclude each other'}"
        )
    return scenario_template(str(name)) if python is None else load_python(python)


def template_to_show(what: str | None, python: str | None) -> Template | PythonTemplate:
    """Return the template of a name or of `--scenario`; of both, what the latter makes of the values of a run.

    Raises:
        ScenarioError: There is no such template.
        RunError: With `--scenario`, `what` is no run.
    """
    if what is None or python is None:
        return given_template("show", what, python)
    scenario = given_scenario(RunDirectory.open(what), python)
    assert scenario is not None
    return PythonTemplate(base=scenario, source=python)


def given_scenario(directory: RunDirectory, python: str | None) -> Scenario | None:
    """Return the scenario that `--scenario` makes of a run's values and steps; None: the option is not given.

    A run of a scenario that the library makes in Python needs no option.

    Raises:
        ScenarioError: There is no such scenario.
    """
    if python is None:
        source = (directory.facts.get("template") or {}).get("source")
        if source not in MADE_IN_PYTHON.values():
            return None
        python = str(source)
    template, described = load_python(python), directory.described
    values = directory.facts.get("values") or {}
    known = {name: value for name, value in values.items() if name in template.parameters}
    saved = plain(directory.scenario) if described is None else described
    steps = saved.get("training", {}).get("steps", TrainingSpec().steps)
    return template.resolve(None, known).with_training(steps=steps)


def values_of(settings: Iterable[str]) -> dict[str, Any]:
    """Read the `name=value` of `--set`; values are YAML.

    Raises:
        ScenarioError: Another form, broken YAML, or a repeated name.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ScenarioError(f"--set '{setting}': must be name=value, for example --set width=64")
        name = name.strip()
        if name in values:
            raise ScenarioError(f"--set '{setting}': '{name}' is set twice; keep one")
        data = read(f"value: {text}", f"--set '{setting}'").data
        if data.keys() != {"value"}:
            raise ScenarioError(f"--set '{setting}': the value must be one YAML value")
        values[name] = data["value"]
    return values


def logdir_root(logdir: Path | None) -> Path:
    """Return the parent of run directories: `--logdir`, else $ANTIPHON_LOGDIR, else `runs`."""
    return logdir or Path(os.environ.get("ANTIPHON_LOGDIR") or "runs")


def new_directory(logdir: Path | None, name: str | None, stem: str) -> Path:
    """Return the directory of a new run: that of `name`, or `stem` with the time; it must not exist.

    Raises:
        RunError: The name is no valid directory name in the log directory.
    """
    root = logdir_root(logdir)
    if name is not None:
        if not _DIRECTORY.fullmatch(name):
            mend = "use letters, digits, '-', '_' and '.'; --logdir says where it goes"
            raise RunError(f"--name: '{name}' cannot name a run directory; {mend}")
        return root / name
    path = root / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    others = (path.with_name(f"{path.name}-{number}") for number in range(2, 10_000))
    return path if not path.exists() else next(other for other in others if not other.exists())
