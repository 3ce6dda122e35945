"""Parsing of command-line arguments: values, parts, and where a run is written."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError, ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import show_value
from antiphon.distributed.settings import PartsSettings
from antiphon.jobs.sources import new_directory
from antiphon.running.directory import check_exist
from antiphon.scenarios.yaml_text import read


def values_of(settings: Iterable[str]) -> dict[str, Any]:
    """Read the `name=value` of `--set`; values are YAML."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ScenarioError(
                f"--set {show_value(setting)}: must be name=value, for example --set width=64"
            )
        data = read(f"value: {text}", f"--set '{setting}'").data
        if data.keys() != {"value"}:
            raise ScenarioError(f"--set '{setting}': the value must be one YAML value")
        values[name.strip()] = data["value"]
    return values


def run_directory(stem: str, name: str | None, logdir: Path | None, exist: str) -> Path:
    """Return the directory of `--name`, `--logdir` and `--exist`; without a name it begins with `stem`."""
    check_exist(exist)
    if exist != "number" and name is None:
        raise RunError(f"--exist {exist}: needs the name of the run; give it with --name")
    return new_directory(logdir, name, stem)


def parts_of(
    parts: Sequence[str] | None,
    agents: Iterable[str],
    ray: str | None,
    cluster: str | None = None,
    before: PartsSettings | None = None,
) -> PartsSettings | None:
    """Return the settings of a run in parts; None: as it was run, or of a new one without parts.

    Args:
        parts: The entries of `--parts`: a number of parts, or `AGENT=PART`, where `*` stands for any characters and the last
            entry counts.
        before: Of the run that is resumed. Where `--parts` is given, all else is as of a new run.
    """
    if not parts and before is not None:
        return None if ray is None else PartsSettings(**dict(before) | {"ray": ray})
    settings: dict[str, Any] = {"ray": ray, "cluster": cluster}
    if parts and len(parts) == 1 and parts[0].isdecimal():
        settings["count"] = int(parts[0])
    elif parts:
        settings["placement"] = {}
        for entry in parts:
            pattern, _, part = entry.rpartition("=")
            matching = fnmatch.filter(names := list(agents), pattern)
            if not pattern or not part.isdecimal():
                raise ScenarioError(f"--parts {entry}: must be a number of parts, or AGENT=PART")
            if not matching:
                raise ScenarioError(f"--parts {entry}: no agent '{pattern}'{suggest(pattern, names)}")
            settings["placement"] |= dict.fromkeys(matching, int(part))
    return PartsSettings(**settings) if any(value is not None for value in settings.values()) else None
