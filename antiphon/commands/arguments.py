"""Parsing of command-line arguments: scenarios, values, directories."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.library import MADE_IN_PYTHON, scenario_names, template_named
from antiphon.engine.runs.python_template import PythonTemplate, load_python
from antiphon.engine.virtual.profile import VirtualSettings, find_profile
from antiphon.errors import RunError, ScenarioError, suggest
from antiphon.problems import show_value
from antiphon.scenarios import Scenario, Template, TrainingSpec
from antiphon.scenarios.yaml_text import read, read_file
from antiphon.spec import plain

__all__ = [
    "PartsOptions",
    "division_of",
    "given_scenario",
    "given_template",
    "logdir_root",
    "new_directory",
    "placement_of",
    "scenario_template",
    "template_to_show",
    "values_of",
]

_PART = re.compile(r"[0-9]{1,9}")
_PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""`MODULE:FUNCTION`."""
_PATTERNS = 256
"""Of `--parts`, each of which is compared with every agent."""
_OF_PARTS = ("ray", "mode", "every")
"""Options that say how parts run."""
_DIRECTORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def scenario_template(name: str) -> Template | PythonTemplate:
    """Return the template of a library name, a YAML file, a run directory (its resolved scenario) or `MODULE:FUNCTION`.

    Raises:
        ScenarioError: There is no such template.
        RunError: It is a run whose scenario holds Python objects.
    """
    if _PYTHON.fullmatch(name):
        return load_python(name)
    if name in scenario_names() or not (Path(name) / "scenario.yaml").is_file():
        return template_named(name)
    if (Path(name) / "run.json").is_file():
        directory = RunDirectory.open(name)
        scenario = given_scenario(directory, None)
        if scenario is not None:
            return PythonTemplate(base=scenario, source=name)
        directory.check_document()
    document = Path(name) / "scenario.yaml"
    return Template.from_saved(read_file(document), str(document))


def given_template(command: str, name: str | None) -> Template | PythonTemplate:
    """Return the template that a command was given.

    Raises:
        ScenarioError: None was given, or there is no such template.
    """
    if name is None:
        raise ScenarioError(f"{command}: give a scenario: a library name, a YAML file or MODULE:FUNCTION")
    return scenario_template(name)


def template_to_show(name: str | None, python: str | None) -> Template | PythonTemplate:
    """Return the template of a name; with `--scenario`, what that makes of the values of a run.

    Raises:
        ScenarioError: There is no such template.
        RunError: With `--scenario`, `name` is no run.
    """
    if name is None or python is None:
        return given_template("show", name)
    scenario = given_scenario(RunDirectory.open(name), python)
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
        ScenarioError: Another form, a file that cannot be read, an unknown agent, more than 256 patterns, or an agent that is left out.
    """
    agents = list(agents)
    known = set(agents)
    placement: dict[str, int] = {}
    patterns = 0
    for entry in entries:
        pattern, equals, number = entry.rpartition("=")
        found: Mapping[str, object] = {pattern: number} if equals else _placement_file(entry)
        for name, part in found.items():
            if not _PART.fullmatch(str(part)):
                raise ScenarioError(
                    f"--parts {entry}: the part of '{name}' is {show_value(part)}; parts are numbered from 0, for example "
                    f"--parts {agents[0]}=0"
                )
            if name.strip() in known:
                placement[name.strip()] = int(str(part))
                continue
            patterns += 1
            if patterns > _PATTERNS:
                raise ScenarioError(
                    f"--parts {entry}: more than {_PATTERNS} patterns; name the agents in a YAML file"
                )
            matching = [agent for agent in agents if fnmatchcase(agent, name.strip())]
            if not matching:
                raise ScenarioError(f"--parts {entry}: there is no agent '{name}'{suggest(name, agents)}")
            placement |= dict.fromkeys(matching, int(str(part)))
    missing = [agent for agent in agents if agent not in placement]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ScenarioError(
            f"--parts: agent '{missing[0]}'{others} has no part; begin with --parts '*=0' for all others"
        )
    return {agent: placement[agent] for agent in agents}


def division_of(parts: Sequence[str], agents: Iterable[str]) -> int | dict[str, int] | None:
    """Read `--parts`: a number of parts, or the part of each agent (`placement_of`); None: it was not given.

    Raises:
        ScenarioError: A number beside other entries, or what `placement_of` raises.
    """
    numbers = [entry for entry in parts if entry.isdecimal()]
    if not numbers:
        return placement_of(parts, agents) if parts else None
    if len(parts) > 1:
        raise ScenarioError(f"--parts {numbers[0]}: a number of parts stands alone; leave the others out")
    if not _PART.fullmatch(numbers[0]) or not int(numbers[0]):
        raise ScenarioError(f"--parts: must be at least 1, not {numbers[0]}")
    return int(numbers[0])


@dataclass(frozen=True)
class PartsOptions:
    """The options of `run` and `resume` for parts, as given; what is not given is None or empty."""

    parts: Sequence[str] = ()
    mode: str | None = None
    every: int | None = None
    ray: str | None = None

    def settings(self, agents: Iterable[str], before: PartsSettings | None = None) -> PartsSettings | None:
        """Return the settings of a run; None: as it was run, or of a new one without parts.

        Args:
            agents: Of the scenario.
            before: Of the run that is resumed. Where `--parts` is given, all else is as of a new run.

        Raises:
            ScenarioError: An option has no effect, or a value that cannot be.
        """
        found = {name: getattr(self, name) for name in _OF_PARTS if getattr(self, name) is not None}
        division = division_of(self.parts, agents)
        if isinstance(division, int):
            return PartsSettings(count=division, **found)
        if division is not None:
            return PartsSettings(placement=division, **found)
        if before is not None:
            return replace(before, **found) if found else None
        if found:
            raise ScenarioError(f"--{next(iter(found))}: into how many parts? add --parts N")
        return None

    def virtual(self, backend: str, cluster: str, agents: Iterable[str]) -> VirtualSettings:
        """Return the cluster and the placement of a run in virtual time.

        Raises:
            ScenarioError: An option has no effect, or the profile is not accepted.
        """
        if backend != "cohort":
            raise ScenarioError(f"--backend {backend}: has no effect in virtual time; leave it out")
        for name in _OF_PARTS:
            if getattr(self, name) is not None:
                raise ScenarioError(f"--{name}: has no effect in virtual time; leave it out")
        return VirtualSettings(find_profile(cluster), division_of(self.parts, agents))


def _placement_file(path: str) -> dict[str, object]:
    try:
        text = read_file(Path(path))
    except ScenarioError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ScenarioError(
            f"--parts {path}: neither a number, AGENT=PART nor a YAML file that can be read ({reason})"
        ) from None
    return dict(read(text, path).data)


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
