"""Registry of the extension points: the names that a scenario may use, those of antiphon and those of users.

An extension point maps names to factories. antiphon's own names are entries of the same registry; others are added by
`register`, or by the entry points of an installed package, in the group `antiphon.<point>s` (`antiphon.objectives`,
`antiphon.gradients`, …). docs/extending.md has what each factory is called with and what it returns.
"""

from __future__ import annotations

import dis
import inspect
import json
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from itertools import takewhile
from pathlib import Path
from pkgutil import iter_modules
from traceback import walk_stack, walk_tb
from types import FrameType
from typing import Any, TypeVar

from antiphon.base.errors import AntiphonError, CallError, ScenarioError, first_line, with_article
from antiphon.base.nearest_names import suggest
from antiphon.base.spellings import fix_of_word, spelled

_MODULES: dict[str, tuple[str, ...]] = {
    "gradient": (
        "antiphon.comms.synthetic_gradients",
        "antiphon.comms.label_gradients",
        "antiphon.agents.local_policy",
    ),
    "input": ("antiphon.comms.synthetic_inputs",),
    "aggregation": ("antiphon.comms.links", "antiphon.nets.attention"),
    "network": (
        "antiphon.agents.feedforward",
        "antiphon.agents.recurrent",
        "antiphon.agents.nature",
        "antiphon.agents.pointer",
        "antiphon.agents.posterior",
    ),
    "objective": (
        "antiphon.agents.objectives",
        "antiphon.agents.policy_gradients",
        "antiphon.agents.q_learning",
    ),
    "optimiser": ("antiphon.nets.optimiser_kinds",),
    "schedule": ("antiphon.nets.schedules",),
    "sample": ("antiphon.comms.symbols",),
    "coupling": ("antiphon.comms.couplings",),
    "recorder": ("antiphon.telemetry.loggers",),
}
"""By extension point, the modules whose classes register themselves, imported at the first use of the point."""
_WORLDS = {"gymnasium": "gymnasium", "pettingzoo": "'antiphon[worlds]'", "mpe2": "'antiphon[worlds]'"}
"""Packages of worlds whose modules a document may name, and what to install for them."""
_ALLOWED = "ANTIPHON_ALLOW_IMPORT"
"""The environment variable of further such packages, separated by commas."""
POINTS = tuple(_MODULES)
"""The extension points."""
_OWN: dict[str, dict[str, Any]] = {point: {} for point in POINTS}
"""antiphon's own kinds by name, as they register themselves."""
Kind = TypeVar("Kind", bound=Callable[..., Any])
_registered: dict[str, dict[str, Any]] = {point: {} for point in POINTS}
_registrars: dict[str, list[str]] = {}
"""By name of a user's kind or environment, the packages whose code registered it, the innermost first; of an id of Gymnasium the
allowed package whose import added it."""
COMMAND = "…"
"""After `--allow-import PACKAGE` in a line, the words of the command, which the command line knows."""


def register(point: str, name: str, factory: Callable[..., Any]) -> None:
    """Add a name to an extension point, for scenario files and for Python, in this process.

    Args:
        point: `objective`, `gradient`, `input` (predictor of messages), `aggregation`, `optimiser`, `schedule`, `network`,
            `sample`, `coupling`, `recorder`; or `environment`, which is `antiphon.envs.register`.
        name: The name in scenario files. A user-defined name that already exists is replaced.
        factory: Called with the keys in the scenario file as keyword arguments, and with the sizes that the point gives. Its
            keys are the fields of its class `Options`, or else the parameters of its signature.

    Raises:
        ScenarioError: The point is unknown, the name is built in, or the factory is not callable.
    """
    if point == "environment":
        envs: Any = import_module("antiphon.envs")
        envs.register(name, factory)
        return
    point = spelled(point, POINTS)
    if point not in POINTS:
        raise ScenarioError(
            f"register: unknown extension point {point!r}{suggest(point, (*POINTS, 'environment'))}"
        )
    if not isinstance(name, str) or not name or "$" in name:
        raise ScenarioError(f"register: {point}: {name!r} is not a name; use a word")
    is_built_in = str(getattr(factory, "__module__", "")).startswith("antiphon.")
    if not is_built_in and name in _built_in(point):
        raise ScenarioError(f"register: {point} {name!r} is built in; choose another name")
    if not callable(factory):
        raise ScenarioError(f"register: {name!r} is {factory!r}, which is not callable; register a factory")
    (_OWN if is_built_in else _registered)[point][name] = factory
    if not is_built_in:
        note_registrars(name)


def note_registrars(name: str) -> None:
    """Note the packages whose code registers a name."""
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in walk_stack(None))
    _registrars[name] = list(dict.fromkeys(module.partition(".")[0] for module in modules))


_DECORATORS = {"input": "synthetic_input"}
"""Names of decorators, where they are not the point's."""


def _decorator(point: str) -> Callable[[str], Callable[[Kind], Kind]]:
    def named(name: str) -> Callable[[Kind], Kind]:
        if not isinstance(name, str):
            line = f"{name_of(name)} is no name; write @antiphon.{_DECORATORS.get(point, point)}('NAME') above it"
            raise ScenarioError(f"{point}: {line}")

        def add(factory: Kind) -> Kind:
            register(point, name, factory)
            return factory

        return add

    named.__doc__ = f"Decorator: register a class or function as a kind of `{point}`; see `register`."
    return named


environment = _decorator("environment")
objective = _decorator("objective")
gradient = _decorator("gradient")
aggregation = _decorator("aggregation")
optimiser = _decorator("optimiser")
schedule = _decorator("schedule")
network = _decorator("network")
recorder = _decorator("recorder")
sample = _decorator("sample")
coupling = _decorator("coupling")
synthetic_input = _decorator("input")


@cache
def _load(point: str) -> None:
    modules = _MODULES[point]
    for module in modules:
        import_module(module)
    order = {module: index for index, module in enumerate(modules)}  # whichever was imported first
    ordered = sorted(_OWN[point].items(), key=lambda item: order.get(getattr(item[1], "__module__", ""), -1))
    _OWN[point] = dict(ordered)


def _built_in(point: str) -> dict[str, Any]:
    """antiphon's own names of a point, once its modules have registered theirs, in the order of the modules."""
    _load(point)
    return _OWN[point]


def registered(point: str) -> tuple[str, ...]:
    """Return the names of a point that were registered in this process and are not antiphon's own."""
    return tuple(_registered[point])


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
        if package.startswith(("antiphon/", "gymnasium/", "pettingzoo/", "vmas/")):
            fix = f"ids of {package.partition('/')[0]} need no permission; {fix}, of the package that registers the environment"
        raise ScenarioError(f"--allow-import: {package!r} is not a package; {fix}")
    os.environ[_ALLOWED] = ",".join(dict.fromkeys([*allowed_imports(), package]))


def import_allowed() -> None:
    """Import the packages that scenario files may import, for what they register; ScenarioError where one cannot be imported."""
    for package in allowed_imports():
        imported_by_name(package, f"--allow-import {package}")


def allowed_by_name(name: str, place: str) -> Any:
    """Return the class or function `MODULE:NAME` of a package that scenario files may import, which defines it.

    Of a module that is imported already, a class of environments (with `reset` and `step`) needs no permission.

    Args:
        name: What a document names.
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
        message: The line.
        command: The command that imports it, which ends the line and is never shortened; empty: none is known.
    """

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message)
        self.command = command

    def __str__(self) -> str:
        return f"{super().__str__()}{self.command and '; '}{self.command}"


class Catalogue(Mapping[str, Any]):
    """The factories of one extension point by name: antiphon's own, the registered ones, those of installed packages."""

    def __init__(self, point: str) -> None:
        self.point = point

    def __getitem__(self, name: str) -> Any:
        if name in _registered[self.point]:
            return _registered[self.point][name]
        built_in = _built_in(self.point).get(name)
        if built_in is not None:
            return built_in
        return _loaded(self.point, name)

    def __iter__(self) -> Iterator[str]:
        return iter(
            dict.fromkeys([*_built_in(self.point), *_registered[self.point], *_installed(self.point)])
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        point = self.point
        if not isinstance(name, str):
            return False
        if name in _built_in(point) or name in _registered[point] or name in _installed(point):
            return True
        import_allowed()
        return name in _registered[point]


@cache
def _installed(point: str) -> dict[str, Any]:
    """What installed packages have, by name: entry points, and of optimisers the classes of torch."""
    by_name: dict[str, Any] = {entry.name: entry for entry in entry_points(group=f"antiphon.{point}s")}
    return _of_torch() | by_name if point == "optimiser" else by_name


NEEDS_MORE = {
    "LBFGS": "needs a closure in step() that computes the loss again, which no agent has; use another, such as AdamW",
    "SparseAdam": "takes sparse gradients only, and all are dense; use another, such as Adam",
}
"""The classes of `torch.optim` that dense gradients do not suffice for, each with the reason."""
_SCHEDULERS = "is a scheduler of torch.optim.lr_scheduler, whose count no checkpoint would have"


def _of_torch() -> dict[str, type]:
    """The classes of `torch.optim` whose step needs no closure and no sparse gradients."""
    from torch import optim

    classes = {name: attribute for name, attribute in vars(optim).items() if isinstance(attribute, type)}
    left_out = {"Optimizer", *NEEDS_MORE}
    return {n: c for n, c in classes.items() if issubclass(c, optim.Optimizer) and n not in left_out}


def refused_of_torch(point: str, kind: object) -> str:
    """Return why a class or object of torch, or its name, is no optimiser or schedule here; empty: no such reason is known."""
    if point not in ("optimiser", "schedule"):
        return ""
    from torch.optim import Optimizer, lr_scheduler

    if isinstance(kind, Optimizer):
        name = type(kind).__name__
        return f"{with_article(name)} that is made already has other parameters; give its class, and its options as keys"
    if point == "optimiser":
        reasons = {name.lower(): f"{name} {reason}" for name, reason in NEEDS_MORE.items()}
        return reasons.get(kind.lower(), "") if isinstance(kind, str) else ""

    if isinstance(kind, str):
        scheduler = getattr(lr_scheduler, kind, None)
        name = kind
    else:
        scheduler = getattr(kind, "func", kind)  # of functools.partial
        scheduler = scheduler if isinstance(scheduler, type) else type(scheduler)
        name = scheduler.__name__
    if not (isinstance(scheduler, type) and issubclass(scheduler, lr_scheduler.LRScheduler)):
        return ""
    fix = fix_of_word(point, name).removeprefix("; ") or f"write kind: {', '.join(_built_in(point))}"
    return f"{name} {_SCHEDULERS}; {fix}, or give a function of the step such as LambdaLR's lr_lambda"


def _loaded(point: str, name: str) -> Any:
    entry = _installed(point)[name]
    if isinstance(entry, type):
        return entry
    try:
        return entry.load()
    except Exception as error:  # noqa: BLE001  (anything a package may raise)
        raise ScenarioError(
            f"{point} {name!r}: its package cannot be loaded from {entry.value} ({first_line(error)}); reinstall it"
        ) from None


def is_built_in(point: str, kind: object) -> bool:
    """Whether a kind is a name of antiphon's own."""
    return isinstance(kind, str) and kind in _built_in(point)


def name_of(kind: object) -> str:
    """Return a kind in words: its name, or that of the Python object."""
    return kind if isinstance(kind, str) else getattr(kind, "__name__", type(kind).__name__)


def key_of(kind: object, options: Mapping[str, Any]) -> tuple[object, str]:
    """Return a key that is equal for kinds that are made alike: of equal names, or one object, with equal options."""
    return (kind if isinstance(kind, str) else id(kind)), json.dumps(
        dict(options), sort_keys=True, default=repr
    )


def made(point: str, kind: Any, options: Mapping[str, Any], *, factory: bool = False, **sizes: Any) -> Any:
    """Return what a kind stands for: made by the factory of that name or class, or the Python object itself.

    Args:
        point: The extension point.
        kind: A registered name, a class, or an object that is used as it is.
        options: Keyword arguments of the factory.
        factory: Whether a function is a factory too, and no object of its own.
        sizes: More keyword arguments of the factory.

    Raises:
        ScenarioError: The factory does not take them, or fails; or there are options and nothing to give them to.
    """
    if isinstance(kind, str):
        source = Catalogue(point)[kind]
    elif isinstance(kind, type) or (factory and not hasattr(kind, "forward")):
        source = kind
    elif options:
        raise ScenarioError(
            f"options: {name_of(kind)} is already an object; give its class or a registered name"
        )
    else:
        return kind
    return call_factory(source, name_of(kind), **sizes, **options)


def _signature(factory: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a factory; that of a class is read once, as thousands of agents may have objectives of it."""
    return _class_signature(factory) if isinstance(factory, type) else inspect.signature(factory)


@lru_cache(maxsize=64)
def _class_signature(factory: type) -> inspect.Signature:
    return inspect.signature(factory)


def call_factory(factory: Callable[..., Any], name: str, /, **arguments: Any) -> Any:
    """Return a factory's result.

    Raises:
        ScenarioError: It does not take these arguments, or fails.
    """
    called = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    try:
        signature = _signature(factory)
        signature.bind(**arguments)
    except TypeError as error:
        *first, last = arguments
        named = f"s {', '.join(first)} and {last}" if first else f" {last}"
        fix = "" if arguments.keys() <= signature.parameters.keys() else f"; name its argument{named}"
        raise ScenarioError(f"{name} cannot be called as {called}: {error}{fix}") from None
    except ValueError:  # of some built-in callables no signature is known
        pass
    try:
        return factory(**arguments)
    except ScenarioError:
        raise
    except Exception as error:  # noqa: BLE001  (anything a user's factory may raise)
        key = _wrong_key(factory, arguments)
        setting, fix = "", f"mend it, or its keys: {called}"
        if key is not None:
            unknown = isinstance(error, TypeError) and "unexpected keyword" in str(error)
            fix = f"let it take {key}" if unknown else "write another value, or leave it out"
            setting = f" for {key}={arguments[key]!r}"
        raise ScenarioError(f"{name} failed{setting}: {first_line(error)}; {fix}") from None


def _wrong_key(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> str | None:
    """Return the argument without which a factory that failed does not; None: there is none."""
    for key in arguments:
        with suppress(Exception):  # of a user's factory, which fails again
            factory(**{argument: value for argument, value in arguments.items() if argument != key})
            return key
    return None


# --- failures ----------------------------------------------------------------------------------------------------


def call_error(error: Exception, place: str, name: str = "") -> CallError | None:
    """Return the error of a call of a user's object, in one line; None for antiphon's own, or if nothing of theirs was called.

    Args:
        error: What was raised.
        place: Whose object it is, such as `agents.eye`; empty: unknown.
        name: What was called, where it is known to be a user's; else their code is sought on the way of the error.
    """
    from antiphon.base.memory import was_refused

    if isinstance(error, AntiphonError) or was_refused(error):
        return None
    cause, prefix = f"{type(error).__name__}: {first_line(error)}", f"{place}: " if place else ""
    if users := users_place(error):
        where = "{} failed at {}".format(*users)
    elif name:
        where = f"{name} failed{_within([frame for frame, _ in walk_tb(error.__traceback__)])}"
    else:
        return None
    return CallError(f"{prefix}{where}: {cause}")


def users_place(error: BaseException) -> tuple[str, str] | None:
    """Return the newest function of a user's that an error passed, and its file and line; None: it passed none."""
    frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__) if _is_users(frame)]
    if not frames:
        return None
    code, line = frames[-1]
    return code.co_qualname, f"{os.path.basename(code.co_filename)}:{line}"


def raised_by_user(error: Exception) -> bool:
    """Return whether a `raise` in a user's code raised an error, and no library that it called."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not _is_users(last.tb_frame):
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


@cache
def _libraries() -> tuple[str, ...]:
    """Folders of antiphon and of torch, which calls users' objects."""
    import torch

    antiphon_folder = os.path.dirname(os.path.abspath(__file__))  # a folder of the package
    return tuple(os.path.join(os.path.dirname(file), "") for file in (torch.__file__, antiphon_folder))


def _is_users(frame: FrameType) -> bool:
    """Whether a frame is of neither antiphon, torch nor Python itself."""
    file, standard = frame.f_code.co_filename, os.path.join(sysconfig.get_path("stdlib"), "")
    if file.startswith((standard, "<frozen")) and "site-packages" not in file:
        return False
    return not file.startswith((*_libraries(), "<eval_with_key>"))  # the last is code of torch.fx


def _within(frames: list[FrameType]) -> str:
    """Return " in 'path' (Class)" of the innermost module that was called; empty: none within another."""
    from torch import nn

    modules = [
        module_called
        for frame in frames
        if isinstance(module_called := frame.f_locals.get("self"), nn.Module)
    ]
    inner = modules[-1] if modules else None
    path = next(
        (path for path, submodule in modules[0].named_modules() if submodule is inner)
        if modules
        else iter(()),
        "",
    )
    return f" in '{path}' ({type(inner).__name__})" if path else ""
