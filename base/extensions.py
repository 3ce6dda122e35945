"""Registry of the extension points: the names that a scenario may use, those of antiphon and those of users.

An extension point maps names to factories. antiphon's own names are entries of the same registry; others are added by
`register`, or by the entry points of an installed package, in the group `antiphon.<point>s` (`antiphon.objectives`,
`antiphon.gradients`, …). docs/extending.md has what each factory is called with and what it returns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from itertools import chain
from pkgutil import iter_modules
from typing import Any, TypeVar

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.imports import import_given

_MODULES: dict[str, str | None] = {
    "gradient": "antiphon.comms",
    "input": "antiphon.comms.synthetic_inputs",
    "network": "antiphon.agents",
    "objective": "antiphon.agents",
    "optimiser": "antiphon.nets.optimisers",
    "schedule": "antiphon.nets.schedules",
    "sample": "antiphon.comms.symbols",
    "coupling": "antiphon.comms.couplings",
}
"""By extension point, the module or folder whose classes register themselves, imported at the first use of the point."""
POINTS = tuple(_MODULES)
_OWN: dict[str, dict[str, Any]] = {point: {} for point in POINTS}
"""antiphon's own kinds by name, as they register themselves."""
Kind = TypeVar("Kind", bound=Callable[..., Any])
_registered: dict[str, dict[str, Any]] = {point: {} for point in POINTS}


def is_users(definition: object) -> bool:
    """Return whether a class or function is a user's, by the module that it is defined in: not antiphon's."""
    return not str(getattr(definition, "__module__", "")).startswith("antiphon.")


def register(point: str, name: str, factory: Callable[..., Any]) -> None:
    """Add a name to an extension point, for scenario files and for Python, in this process.

    Args:
        point: `objective`, `gradient`, `input` (predictor of messages), `optimiser`, `schedule`, `network`, `sample`,
            `coupling`; or `environment`, which is `antiphon.envs.register`.
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
    if point not in POINTS:
        raise ScenarioError(
            f"register: unknown extension point {point!r}{suggest(point, (*POINTS, 'environment'))}"
        )
    of_users = is_users(factory)
    if of_users and name in _built_in(point):
        raise ScenarioError(f"register: {point} {name!r} is built in; choose another name")
    (_registered if of_users else _OWN)[point][name] = factory


def _decorator(point: str) -> Callable[[str], Callable[[Kind], Kind]]:
    def named(name: str) -> Callable[[Kind], Kind]:
        def add(factory: Kind) -> Kind:
            register(point, name, factory)
            return factory

        return add

    named.__doc__ = f"Decorator: register a class or function as a kind of `{point}`; see `register`."
    return named


environment = _decorator("environment")
objective = _decorator("objective")
gradient = _decorator("gradient")
optimiser = _decorator("optimiser")
schedule = _decorator("schedule")
network = _decorator("network")
sample = _decorator("sample")
coupling = _decorator("coupling")
synthetic_input = _decorator("input")


@cache
def _load(point: str) -> None:
    if (name := _MODULES[point]) is not None:
        for _, module, _ in iter_modules(getattr(import_module(name), "__path__", ()), f"{name}."):
            import_module(module)
    _OWN[point] = dict(sorted(_OWN[point].items()))


def _built_in(point: str) -> dict[str, Any]:
    """antiphon's own names of a point, once its modules have registered theirs."""
    _load(point)
    return _OWN[point]


def registered(point: str) -> tuple[str, ...]:
    """Return the names of a point that were registered in this process and are not antiphon's own."""
    return tuple(_registered[point])


class Catalogue(Mapping[str, Any]):
    """The factories of one extension point by name: antiphon's own, the registered ones, those of installed packages."""

    def __init__(self, point: str) -> None:
        self.point = point

    @property
    def _sources(self) -> tuple[Mapping[str, Any], ...]:
        return _built_in(self.point), _registered[self.point], _installed(self.point)

    def __getitem__(self, name: str) -> Any:
        entry = next(names[name] for names in self._sources if name in names)
        return entry.load() if isinstance(entry, EntryPoint) else entry

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(chain(*self._sources)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        if not any(name in names for names in self._sources):
            import_given()
        return any(name in names for names in self._sources)


@cache
def _installed(point: str) -> dict[str, Any]:
    """What installed packages have, by name: entry points, and of optimisers the classes of torch."""
    by_name: dict[str, Any] = {entry.name: entry for entry in entry_points(group=f"antiphon.{point}s")}
    return _of_torch() | by_name if point == "optimiser" else by_name


def _of_torch() -> dict[str, type]:
    """The classes of `torch.optim` whose step needs no closure and no sparse gradients."""
    from torch import optim

    classes = {name: attribute for name, attribute in vars(optim).items() if isinstance(attribute, type)}
    left_out = {"Optimizer", "LBFGS", "SparseAdam"}
    return {n: c for n, c in classes.items() if issubclass(c, optim.Optimizer) and n not in left_out}


def is_built_in(point: str, kind: object) -> bool:
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
    """Return what a kind stands for: made by the factory of that name or class with options and sizes, or the Python object itself.

    A function is an object of its own unless `factory`. ScenarioError where there are options and nothing to give them to.
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
    return source(**sizes, **options)
