"""Modules of a user's own: those imported before a command, and those that a scenario file may name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from antiphon.base.errors import ScenarioError

_WORLDS = {"gymnasium", "pettingzoo", "mpe2"}
"""Packages of worlds whose modules a document may name."""
_GIVEN = "ANTIPHON_IMPORT"
"""The environment variable with the modules of `--import`, separated by commas, for the processes that a command starts."""


def is_importable(factory: Any) -> bool:
    """Return whether another process finds a factory by its module and name."""
    resolved: Any = sys.modules.get(getattr(factory, "__module__", ""))
    for name in getattr(factory, "__qualname__", "").split("."):
        resolved = getattr(resolved, name, None)
    return resolved is factory


def imported(reference: str) -> Any:
    """Return what `module:attribute` names."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def import_beside(module: str, place: str) -> Any:
    """Return a module of the user's own, as `python` finds it in the working folder; ScenarioError at a place where there is none."""
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        line = f"no module '{error.name}' in {folder} or among the installed packages"
        raise ScenarioError(f"{place}: {line}") from None


def given_modules() -> list[str]:
    return [*filter(None, os.environ.get(_GIVEN, "").split(","))]


def import_given(modules: Iterable[str] = ()) -> None:
    """Import modules of the user's own, found as by `python` in the working folder, and those given to the process before."""
    names = [*dict.fromkeys([*given_modules(), *modules])]
    for name in names:
        import_beside(name, f"--import {name}")
    os.environ[_GIVEN] = ",".join(names)


def with_imports(command: str) -> str:
    """Return a command line with the modules that were imported before this one."""
    modules = "".join(f"--import {module} " for module in given_modules())
    return f"antiphon {modules}{command.removeprefix('antiphon ')}"


def named_module(module: str, place: str) -> Any:
    """Return a module that a document names, at a place: one imported already, of `_WORLDS`, or of a package of `--import`."""
    import_given()
    if module in sys.modules:
        return sys.modules[module]
    package = module.partition(".")[0]
    if package not in {*_WORLDS, *(given.partition(".")[0] for given in given_modules())}:
        fix = f"import '{module}' before: antiphon --import {module} COMMAND …, or in Python"
        raise ScenarioError(f"{place}: a scenario file imports no module; {fix}")
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ScenarioError(f"{place}: {module} needs {error.name}, which is not installed") from None
