"""Parsing of command-line arguments: scenarios, values, directories."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError, ScenarioError
from antiphon.base.files import display_path
from antiphon.base.imports import imported_by_name, with_imports
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import show_value
from antiphon.base.spec import plain
from antiphon.distributed.settings import PartsSettings
from antiphon.distributed.virtual.profile import find_profile
from antiphon.envs.registry import is_known
from antiphon.running.directory import LOGDIR, RunDirectory, numbered, run_folder
from antiphon.running.library import as_template, is_document, scenario_names, template_named
from antiphon.running.python_template import Buildable, PythonTemplate, load_python
from antiphon.scenarios import Scenario, Template, TrainingSpec
from antiphon.scenarios.env_spec import EnvSpec
from antiphon.scenarios.loading import MADE_IN_PYTHON
from antiphon.scenarios.yaml_text import read, read_file

_PART = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NUMBERS = re.compile(r"[0-9]+(,[0-9]+)+")
_MOST_DIGITS = 18
_PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""`MODULE:FUNCTION`."""
_DIRECTORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def scenario_template(
    scenario: Buildable | Template | str | Path, python: str | None = None
) -> Template | PythonTemplate:
    """Return the template of a library name, a YAML file, a run directory, `MODULE:FUNCTION` or a Python object.

    Args:
        scenario: The scenario. Of a run directory it is the resolved one; of a population's, that of its best run.
        python: The `--scenario` with which a run directory's Python objects are made of its values.

    Raises:
        ScenarioError: There is no such template.
        RunError: It is a run whose scenario holds Python objects; or with `python`, no run.
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
        name: The argument.
        command: `run` or `study`.
        begins: What the command begins with its scenario.

    Raises:
        RunError: It is one.
    """
    folder = run_folder(name)
    if name in scenario_names() or not (folder / "run.json").is_file():
        return
    directory = RunDirectory.open(folder)
    again = shlex.quote(display_path(folder / "scenario.yaml"))
    resume = f"antiphon resume {shlex.quote(display_path(Path(name)))}"
    if directory.has_objects:
        source = str((directory.facts.get("template") or {}).get("source"))
        again = source if _PYTHON.fullmatch(source) else "MODULE:FUNCTION"
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
        source = str((directory.facts.get("template") or {}).get("source"))
        if source not in MADE_IN_PYTHON.values():
            if _PYTHON.fullmatch(source) and not directory.has_objects:
                _check_environment(directory, source)
            return None
        python = source
    with directory.importing():
        template, described = load_python(python), directory.described
    values = directory.facts.get("values") or {}
    accepted = {name: value for name, value in values.items() if name in template.parameters}
    saved = plain(directory.scenario) if described is None else described
    steps = saved.get("training", {}).get("steps", TrainingSpec().steps)
    return template.resolve(None, accepted, steps)


def _check_environment(directory: RunDirectory, source: str) -> None:
    """Raise RunError where a run's environment cannot be made without `source`, whose module may register it."""
    env = directory.scenario.env
    if isinstance(env, EnvSpec) and not is_known(env.id):
        fix = f"this run was made by {source}; add --scenario {source}"
        raise RunError(f"{directory.path}: no environment '{env.id}'; {fix}")


def values_of(settings: Iterable[str]) -> dict[str, Any]:
    """Read the `name=value` of `--set`; values are YAML.

    Raises:
        ScenarioError: Another form, broken YAML, or a repeated name.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ScenarioError(
                f"--set {show_value(setting)}: must be name=value, for example --set width=64"
            )
        name = name.strip()
        if name in values:
            raise ScenarioError(f"--set '{setting}': '{name}' is set twice; keep one")
        data = read(f"value: {text}", f"--set '{setting}'").data
        if data.keys() != {"value"}:
            raise ScenarioError(f"--set '{setting}': the value must be one YAML value")
        values[name] = data["value"]
    return values


def placement_of(entries: Iterable[str], agents: Iterable[str]) -> dict[str, int]:
    """Read the agents' parts of `--parts`: `AGENT=PART`, where `*` stands for any characters, or a YAML file of `AGENT: PART`.

    Of several entries that match an agent the last counts.

    Raises:
        ScenarioError: Another form, a file that cannot be read, an unknown agent, or an agent that is left out.
    """
    agents = list(agents)
    one_each = "one AGENT=PART each time, as " + " ".join(
        f"--parts {a}={n}" for n, a in enumerate(agents[:2])
    )
    placement = dict[str, int | None].fromkeys(agents)
    for entry in entries:
        if _NUMBERS.fullmatch(entry):
            raise ScenarioError(f"--parts {entry}: {one_each}")
        pattern, equals, number = entry.rpartition("=")
        parts_by_pattern: Mapping[str, object] = {pattern: number} if equals else _placement_file(entry)
        for name, part in parts_by_pattern.items():
            pattern = name.strip()
            if not _PART.fullmatch(str(part)):
                raise ScenarioError(
                    f"--parts {entry}: the part of '{name}' is {show_value(part)}; parts are numbered from 0, for example "
                    f"--parts {agents[0]}=0"
                )
            matching = [pattern] if pattern in placement else fnmatch.filter(agents, pattern)
            if not matching and "," in name:
                raise ScenarioError(f"--parts {entry}: {one_each}")
            if not matching:
                raise ScenarioError(f"--parts {entry}: no agent '{name}'{suggest(name, agents)}")
            placement |= dict.fromkeys(matching, int(str(part)))
    missing = [agent for agent, part in placement.items() if part is None]
    if missing:
        rest = f" and {len(missing) - 1} more have" if len(missing) > 1 else " has"
        raise ScenarioError(
            f"--parts: agent '{missing[0]}'{rest} no part; start with --parts '*=0' for all others"
        )
    return {agent: part for agent, part in placement.items() if part is not None}


def _placement_file(path: str) -> Mapping[str, object]:
    if not path.strip():
        raise ScenarioError("--parts '': is empty; give a number, AGENT=PART or a YAML file")
    try:
        text = read_file(Path(path))
    except ScenarioError as error:
        reason = str(error).removeprefix(f"{path}: ").partition("; ")[0]
        raise ScenarioError(
            f"--parts {path}: must be a number, AGENT=PART or a readable YAML file ({reason})"
        ) from None
    return read(text, path).data


def division_of(parts: Sequence[str], agents: Iterable[str]) -> int | dict[str, int] | None:
    """Read `--parts`: a number of parts, or the part of each agent (`placement_of`); None: it was not given.

    Raises:
        ScenarioError: A number beside other entries, or what `placement_of` raises.
    """
    number = next((entry for entry in parts if _NUMBER.fullmatch(entry)), None)
    if number is None:
        return placement_of(parts, agents) if parts else None
    if len(parts) > 1:
        raise ScenarioError(f"--parts {number}: a number of parts must be alone; leave out the other --parts")
    digits = number.lstrip("+-")
    if not digits.isdecimal():
        raise ScenarioError(
            f"--parts: must be a whole number, not {number}; give how many parts share the agents, such as 2"
        )
    if len(digits) > _MOST_DIGITS:
        raise ScenarioError(f"--parts: has {len(digits):,} digits; use at most the number of agents")
    if int(number) < 1:
        raise ScenarioError(f"--parts: must be at least 1, not {number}")
    return int(number)


def parts_of(
    parts: Sequence[str] | None,
    agents: Iterable[str],
    options: Mapping[str, Any],
    before: PartsSettings | None = None,
) -> PartsSettings | None:
    """Return the settings of a run in parts; None: as it was run, or of a new one without parts.

    Args:
        parts: The entries of `--parts`.
        agents: Of the scenario.
        options: How parts run (`ray`, `mode`), by name; None: not given.
        before: Of the run that is resumed. Where `--parts` is given, all else is as of a new run.

    Raises:
        ScenarioError: An option has no effect, or a value that cannot be.
    """
    settings = {name: value for name, value in options.items() if value is not None}
    division = division_of(parts or (), agents)
    if isinstance(division, int):
        return PartsSettings(count=division, **settings)
    if division is not None:
        return PartsSettings(placement=division, **settings)
    if before is not None:
        return replace(before, **settings) if settings else None
    for name in settings:
        raise ScenarioError(f"--{name}: has no effect without parts; add --parts N")
    return None


def cluster_of(
    cluster: str, parts: Sequence[str] | None, agents: Iterable[str], backend: str, options: Mapping[str, Any]
) -> PartsSettings:
    """Return the settings of a run in virtual time; for the arguments, see `parts_of`.

    Raises:
        ScenarioError: An option has no effect, or the profile is not accepted.
    """
    if backend != "cohort":
        raise ScenarioError(f"--backend {backend}: has no effect in virtual time; leave it out")
    for name in (name for name, value in options.items() if value is not None):
        raise ScenarioError(f"--{name}: has no effect in virtual time; leave it out")
    profile, division = find_profile(cluster), division_of(parts or (), agents)
    if isinstance(division, int):
        return PartsSettings(cluster=profile, count=division)
    return PartsSettings(cluster=profile, placement=division)


def logdir_root(logdir: Path | None) -> Path:
    """Return the parent of run directories: `--logdir`, else $ANTIPHON_LOGDIR, else `runs`."""
    return Path(os.path.expanduser(logdir or os.environ.get("ANTIPHON_LOGDIR") or LOGDIR))


def new_directory(logdir: Path | None, name: str | None, stem: str) -> Path:
    """Return the directory of a new run: that of `name`, or `stem` with the time; it must not exist.

    Raises:
        RunError: The name is no valid directory name in the log directory.
    """
    root = logdir_root(logdir)
    if name is not None:
        if not _DIRECTORY.fullmatch(name):
            mend = "use letters, digits, '-', '_' and '.'; --logdir sets the parent directory"
            raise RunError(f"--name: '{name}' cannot name a run directory; {mend}")
        return root / name
    path = root / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(candidate for candidate in numbered(path) if not candidate.exists())
