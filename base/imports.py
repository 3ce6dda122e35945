"""Packages whose modules a scenario file may import, and which of them a scenario needs."""

from __future__ import annotations

import os
import random
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.metadata import entry_points
from itertools import takewhile
from pathlib import Path
from pkgutil import iter_modules
from traceback import walk_stack
from typing import Any

from antiphon.base.errors import AntiphonError, RunError, ScenarioError
from antiphon.base.nearest_names import suggest

_WORLDS = {"gymnasium": "gymnasium", "pettingzoo": "'antiphon[worlds]'", "mpe2": "'antiphon[worlds]'"}
"""Packages of worlds whose modules a document may name, and what to install for them."""
_ALLOWED = "ANTIPHON_ALLOW_IMPORT"
"""The environment variable of further such packages, separated by commas."""
_registrars: dict[str, list[str]] = {}
"""By name of a user's kind or environment, the packages whose code registered it, the innermost first; of an id of Gymnasium the
allowed package whose import added it."""
COMMAND = "…"
"""After `--allow-import PACKAGE` in a line, the words of the command, which the command line knows."""


def note_registrars(name: str) -> None:
    """Note the packages whose code registers a name."""
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in walk_stack(None))
    _registrars[name] = list(dict.fromkeys(module.partition(".")[0] for module in modules))


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


def allow_import(package: str) -> None:
    """Let scenario files import modules of a package, in this process and its subprocesses.

    It is imported when a file names something unknown, which it may register.

    Args:
        package: Its import name, without dots.

    Raises:
        ScenarioError: It is not an import name.
    """
    if not package.isidentifier():
        fix = "give an import name, such as my_envs"
        if package.startswith(("antiphon/", "gymnasium/", "pettingzoo/")):
            fix = f"ids of {package.partition('/')[0]} need no permission; {fix}, of the package that registers the environment"
        raise ScenarioError(f"--allow-import: {package!r} is not a package; {fix}")
    os.environ[_ALLOWED] = ",".join(dict.fromkeys([*allowed_imports(), package]))


def import_allowed() -> None:
    """Import the packages that scenario files may import, for what they register; ScenarioError where one cannot be imported."""
    for package in allowed_imports():
        imported_by_name(package, f"--allow-import {package}")


def optional(module: str, line: str, error: type[AntiphonError] = RunError) -> Any:
    """Return a module of a package that antiphon does without; an error of this line where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        raise error(line) from None


def import_rich() -> None:
    """Import rich, which draws one of Python's random numbers when it is imported, and give the number back.

    Where it is needed depends on the terminal and on how long a run takes; the caller's numbers must not.
    """
    if "rich.style" not in sys.modules:
        before = random.getstate()
        import_module("rich.style")
        random.setstate(before)


def allowed_by_name(name: str, place: str) -> Any:
    """Return the class or function `MODULE:NAME` of a package that scenario files may import, which defines it.

    Of a module that is imported already, a class of environments (with `reset` and `step`) needs no permission.

    Args:
        place: For errors: what names it.

    Raises:
        ScenarioError: The package is not allowed, cannot be imported, or defines no such class or function.
    """
    module, _, attribute = name.partition(":")
    package = module.partition(".")[0]
    if package in allowed_imports():
        factory = getattr(imported_by_name(module, place), attribute, None)
    else:  # nothing else that happens to be imported may be called with what a document says
        factory = getattr(sys.modules.get(module), attribute, None)
        if not (isinstance(factory, type) and hasattr(factory, "reset") and hasattr(factory, "step")):
            fix = f"import {module} in Python first, if {attribute} is a class with reset and step"
            raise ModuleError(
                f"{place}: a scenario file may not import '{package}'; allow it with antiphon --allow-import {package} {COMMAND}, "
                f"or {fix}"
            )
    if not callable(factory) or str(getattr(factory, "__module__", "")).partition(".")[0] != package:
        raise ScenarioError(
            f"{place}: {module} defines no class or function '{attribute}'; write MODULE:CLASS"
        )
    return factory


def with_imports(command: str, packages: Sequence[str] | None = None) -> str:
    """Return a command line that allows the imports of some packages; None: those that this process allows."""
    allowed = allowed_imports() if packages is None else packages
    return " ".join(
        ["antiphon", *(f"--allow-import {package}" for package in allowed), *command.split(" ")[1:]]
    )


def allowed_imports() -> list[str]:
    """Return the packages that scenario files may import beside `_WORLDS`."""
    return [*filter(None, dict.fromkeys(os.environ.get(_ALLOWED, "").split(",")))]


def needed_imports(names: Iterable[str], *, imported: bool = False) -> list[str]:
    """Return the packages that a scenario with these names needs: of each name that which registered it, or is in it.

    Args:
        names: The texts in the data of the scenario.
        imported: Whether packages of the user's own count too that Python code has imported; else only those that are allowed.
    """
    allowed = allowed_imports()
    needed = dict.fromkeys(allowed, False)
    for name in dict.fromkeys(names):
        packages = [*_registrars.get(name, ()), *re.split("[/:.]", name)]
        provider = next((package for package in packages if package in needed), None)
        if provider is None and imported:
            provider = next(filter(_is_own, _making_known(name)), None)
        if provider is not None:
            needed[provider] = True
    return [package for package, is_needed in needed.items() if is_needed]


def _making_known(name: str) -> list[str]:
    """Return the packages whose import makes a name known: that of `MODULE:CLASS`, those that registered it, that of its id."""
    if module := re.match(r"(?:gymnasium/)?(\w+)[\w.]*:\S+$|pettingzoo/(\w+)", name):
        return [module[1] or module[2]]
    packages = list(takewhile(lambda package: package != "__main__", _registrars.get(name, ())))
    if name.startswith("gymnasium/"):
        from gymnasium import registry

        entry_point = getattr(registry.get(name.removeprefix("gymnasium/")), "entry_point", None) or ""
        entry_point = (
            entry_point if isinstance(entry_point, str) else str(getattr(entry_point, "__module__", ""))
        )
        packages.append(re.split("[.:]", entry_point)[0])
    return packages


def _is_own(package: str) -> bool:
    """Whether a package is the user's, imported by code that runs here, and another process does not know it by itself."""
    never_own = ("antiphon", "gymnasium", "__main__", *_WORLDS)
    if package not in sys.modules or package in never_own or package in sys.stdlib_module_names:
        return False
    plugins = entry_points(group="gymnasium.envs")
    return all(plugin.module.partition(".")[0] != package for plugin in plugins)


def imported_by_name(module: str, place: str) -> Any:
    """Return a module that a document names: one imported already, or of a package that may be imported.

    Args:
        module: Its dotted name.
        place: For errors: what names it.

    Raises:
        ScenarioError: It may not be imported, is not installed, or fails.
    """
    if module in sys.modules:
        return sys.modules[module]
    package = module.partition(".")[0]
    if not all(word.isidentifier() for word in module.split(".")):
        raise ScenarioError(f"{place}: {module!r} is not a module; write package.module")
    allowed = allowed_imports()
    if package not in {*_WORLDS, *allowed}:
        raise ModuleError(
            f"{place}: a scenario file may not import '{package}'; allow it with antiphon --allow-import {package} {COMMAND}, "
            f"or import {module} in Python first"
        )
    if package in allowed and (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)  # as `python` has it: the package may be a file of the user's own
    try:
        with _noting_ids(package) if package in allowed else nullcontext():
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name == package and package in _WORLDS:
            raise ScenarioError(
                f"{place}: {package} is not installed; pip install {_WORLDS[package]}"
            ) from None
        if error.name == package:
            raise ModuleError(
                f"{place}: no module '{package}' in {Path.cwd()} or among the installed packages"
                "; run antiphon in the folder that has it, or install it"
            ) from None
        if error.name is not None and module.startswith(error.name):
            hint = suggest(error.name, _modules_beside(error.name))
            raise ScenarioError(f"{place}: {package} has no module '{error.name}'{hint}") from None
        raise ScenarioError(
            f"{place}: {module} needs {error.name}, which is not installed; install it"
        ) from None
    except Exception as error:  # noqa: BLE001  (anything a package may raise)
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise ScenarioError(f"{place}: {module} cannot be imported: {line}") from None


@contextmanager
def _noting_ids(package: str) -> Iterator[None]:
    """Note a package as what registers the ids that are added to Gymnasium's registry meanwhile."""
    from gymnasium import registry

    before = dict(registry)
    yield
    added = (name for name, spec in registry.items() if spec is not before.get(name))
    _registrars.update((f"gymnasium/{name}", [package]) for name in added)


def _modules_beside(module: str) -> list[str]:
    """The modules of the package that a module is said to be in."""
    parent = module.rpartition(".")[0]
    return [
        f"{parent}.{module_info.name}"
        for module_info in iter_modules(getattr(sys.modules[parent], "__path__", []))
    ]


class ModuleError(ScenarioError):
    """A module of the user's own is not found in this folder, or may not be imported.

    Args:
        command: The command that imports it, which ends the line and is never shortened; empty: none is known.
    """

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message)
        self.command = command

    def __str__(self) -> str:
        return f"{super().__str__()}{self.command and '; '}{self.command}"
