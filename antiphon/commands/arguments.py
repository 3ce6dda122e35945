"""Parsing of command-line arguments: scenarios, values, directories."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Template, library_names, load
from antiphon.scenarios.yaml_text import read

__all__ = ["logdir_root", "new_directory", "scenario_template", "values_of"]

_DIRECTORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def scenario_template(name: str) -> Template:
    """Return the template of a library name, a YAML file or a run directory (its resolved scenario).

    Raises:
        ScenarioError: There is no such template.
    """
    if name not in library_names() and (Path(name) / "scenario.yaml").is_file():
        return load(Path(name) / "scenario.yaml")
    return load(name)


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
