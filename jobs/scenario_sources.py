"""The template of what a user names: a scenario of the library, a file, a run, `MODULE:FUNCTION` or a Python object."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from antiphon.base.errors import RunError
from antiphon.base.files import display_path
from antiphon.base.imports import imported_by_name, with_imports
from antiphon.base.spec import plain
from antiphon.envs.registry import is_known
from antiphon.running.directory import RunDirectory, function_of, run_folder
from antiphon.running.library import as_template, is_document, scenario_names, template_named
from antiphon.running.python_template import Buildable, PythonTemplate, load_python
from antiphon.scenarios import Scenario, Template, TrainingSpec
from antiphon.scenarios.env_spec import EnvSpec
from antiphon.scenarios.loading import MADE_IN_PYTHON
from antiphon.scenarios.yaml_text import read_file

if TYPE_CHECKING:
    from antiphon.running.simulation import Simulation

_PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""`MODULE:FUNCTION`."""


def scenario_template(
    scenario: Buildable | Template | str | Path, python: str | None = None
) -> Template | PythonTemplate:
    """Return the template of a library name, a YAML file, a run directory, `MODULE:FUNCTION` or a Python object.

    Args:
        scenario: The scenario. Of a run directory it is the resolved one; of a population's, that of its best run.
        python: The `--scenario` with which a run directory's Python objects are made of its values.
    """
    if not isinstance(scenario, str | Path):
        return as_template(scenario)
    name = str(scenario)
    if python is None and _PYTHON.fullmatch(name):
        return load_python(name)
    if python is None and name in scenario_names():
        return template_named(name)
    folder = run_folder(name)
    if python is None and not (folder / "scenario.yaml").is_file():
        is_of_runs = "/" in name and not folder.suffix and any(folder.parent.glob("*/run.json"))
        if (folder.is_dir() or (is_of_runs and not folder.exists())) and not is_document(name):
            RunDirectory.open(folder)  # raises, and names the runs that are in it or beside it
        return template_named(name)
    if python is not None or (folder / "run.json").is_file():
        directory = RunDirectory.open(folder)
        from_python = given_scenario(directory, python)
        if from_python is not None:
            return PythonTemplate(base=from_python, source=python or name)
        directory.check_document()
    document = folder / "scenario.yaml"
    return Template.from_yaml(read_file(document), str(document))


def check_no_run(name: str, command: str, begins: str) -> None:
    """Raise RunError where what a command begins anew is a run or a population: the line names what continues it.

    Args:
        command: `run` or `study`.
        begins: What the command begins with its scenario.
    """
    folder = run_folder(name)
    if name in scenario_names() or not (folder / "run.json").is_file():
        return
    directory = RunDirectory.open(folder)
    again = shlex.quote(display_path(folder / "scenario.yaml"))
    resume = f"antiphon resume {shlex.quote(display_path(Path(name)))}"
    if directory.has_objects:
        again = function_of(directory.source)
        resume += f" --scenario {again}"
    resume, new = with_imports(resume), with_imports(f"antiphon {command} {again}")
    raise RunError(f"{name}: is a run; {resume} continues it, {new} begins {begins}")


def given_scenario(directory: RunDirectory, python: str | None) -> Scenario | None:
    """Return the scenario that `--scenario` makes of a run's values and steps; None: the option is not given.

    A run of a scenario that the library makes in Python needs no option.

    Raises:
        ScenarioError: There is no such scenario.
        RunError: The option is not given, and the scenario's environment is only known with the module that made it.
    """
    with directory.importing():
        for package in (directory.facts.get("own_modules") or {}).get("imports", ()):
            imported_by_name(package, str(directory.path))
    if python is None:
        source = directory.source
        if source not in MADE_IN_PYTHON.values():
            if _PYTHON.fullmatch(source) and not directory.has_objects:
                _check_environment(directory, source)
            return None
        python = source
    with directory.importing():
        template, described = load_python(python), directory.described
    values = directory.facts.get("values") or {}
    accepted = {
        name: value for name, value in values.items() if template.takes_all or name in template.parameters
    }
    for name, default in template.defaults.items():
        if accepted.get(name, default) is None and isinstance(default, float) and not math.isfinite(default):
            del accepted[name]  # run.json has no such number
    saved = plain(directory.scenario) if described is None else described
    steps = saved.get("training", {}).get("steps", TrainingSpec().steps)
    return template.resolve(None, accepted, steps)


def simulation_at(directory: RunDirectory, checkpoint: str | None, python: str | None) -> Simulation:
    """Return the simulation of a run's checkpoint (`Checkpoints.find`); `python`: as for `given_scenario`."""
    from antiphon.running.simulation import Simulation  # loads torch: a wrong path is told before

    scenario = given_scenario(directory, python)
    if scenario is None:
        directory.check_document()
    saved = directory.checkpoints.find(checkpoint)
    return Simulation.load(saved, scenario, threads=directory.facts["threads"])


def _check_environment(directory: RunDirectory, source: str) -> None:
    """Raise RunError where a run's environment cannot be made without `source`, whose module may register it."""
    env = directory.scenario.env
    if isinstance(env, EnvSpec) and not is_known(env.id):
        fix = f"this run was made by {source}; add --scenario {source}"
        raise RunError(f"{directory.path}: no environment '{env.id}'; {fix}")
