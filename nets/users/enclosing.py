"""Functions that enclose a module: `self.mlp = lambda x: self.down(self.up(x))`.

`copy.deepcopy` leaves functions as they are. A copied module would call the parameters of the one that it was copied from.
"""

from __future__ import annotations

import copy
import functools
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from antiphon.base.errors import ScenarioError

Copied = TypeVar("Copied")
_CACHED = type(functools.cache(len))
_CONTAINERS = (list, tuple, set, frozenset, deque)
_REGISTRIES = frozenset(("_modules", "_parameters", "_buffers"))
_OTHERS = frozenset(("builtins", "torch", "antiphon"))
_LEAVES = Tensor | type | types.ModuleType | types.BuiltinFunctionType | str | bytes | int | float | None


def deep_copy(value: Copied, memo: dict[int, Any]) -> Copied:
    """Return a deep copy of a module, or of what holds modules, whose functions enclose the copies.

    Args:
        memo: Of `copy.deepcopy`: copies by the identity of what they are of; what is shared is a copy of itself.

    Raises:
        ScenarioError: Something in the copy would call a module or tensor that it was copied from.
    """
    inside = {id(node): node for node in _walk([value], memo, functions=False)}
    originals = {key for key, node in inside.items() if isinstance(node, nn.Module | Tensor)}

    def encloses(function: Any) -> bool:
        return any(id(enclosed) in originals for enclosed in _walk([function], memo))

    _check_classes({type(node) for node in inside.values()}, encloses)
    called = [
        function
        for function in _walk([value], memo)
        if isinstance(function, types.FunctionType) and encloses(function)
    ]
    caches = [cache for cache in _walk([value], memo) if isinstance(cache, _CACHED) and encloses(cache)]
    if not called and not caches:
        return copy.deepcopy(value, memo)
    twins = {id(function): _twin(function) for function in called}
    memo.update(twins)
    for cached in caches:
        if id(cached.__wrapped__) in twins:
            memo[id(cached)] = functools.lru_cache(**cached.cache_parameters())(twins[id(cached.__wrapped__)])
    copy_of_value = copy.deepcopy(value, memo)
    for function in called:
        _fill(
            function, twins[id(function)], lambda node: copy.deepcopy(node, memo) if encloses(node) else node
        )
    copies = [
        memo[key] for key, original in inside.items() if isinstance(original, nn.Module) and key in memo
    ]
    for module in copies:
        _bind_to_twins(module, twins)
    for module in copies:
        for name, attribute in _attributes(module):
            if encloses(attribute):
                raise ScenarioError(
                    f"'{name}' of {type(module).__name__} would call the layers of the original"
                )
    return copy_of_value


def _attributes(module: nn.Module) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(module).items() if name not in _REGISTRIES]


def _bind_to_twins(module: nn.Module, twins: Mapping[int, types.FunctionType]) -> None:
    """Let methods that were set as attributes of a copy call the twins of their functions."""
    for name, attribute in _attributes(module):
        if isinstance(attribute, types.MethodType) and id(attribute.__func__) in twins:
            vars(module)[name] = types.MethodType(twins[id(attribute.__func__)], attribute.__self__)


def _check_classes(classes: Iterable[type], encloses: Callable[[Any], bool]) -> None:
    """Check that no class was made by a function whose modules its methods call: classes are not copied."""
    bases = {base for class_held in classes for base in class_held.__mro__}
    for kind in (base for base in bases if base.__module__.partition(".")[0] not in _OTHERS):
        for name, method in list(vars(kind).items()):
            if (
                name == "__init__"
            ):  # copies are not initialised: what it has as defaults is the original's alone
                continue
            if isinstance(method, types.FunctionType) and method.__closure__ and encloses(method):
                raise ScenarioError(
                    f"{kind.__name__}.{name} encloses layers of the model, which a copy would not call"
                )


def _twin(function: types.FunctionType) -> types.FunctionType:
    """A function of the same code, with empty cells."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)


def _fill(function: types.FunctionType, twin: types.FunctionType, copied: Callable[[Any], Any]) -> None:
    for cell, original in zip(twin.__closure__ or (), function.__closure__ or (), strict=True):
        try:
            cell.cell_contents = copied(original.cell_contents)
        except ValueError:  # not assigned yet
            continue
    defaults, named = function.__defaults__, function.__kwdefaults__
    twin.__defaults__ = None if defaults is None else tuple(map(copied, defaults))
    twin.__kwdefaults__ = None if named is None else {key: copied(default) for key, default in named.items()}
    twin.__dict__.update({key: copied(attribute) for key, attribute in vars(function).items()})
    twin.__qualname__, twin.__doc__ = function.__qualname__, function.__doc__


def _walk(values: Iterable[Any], memo: dict[int, Any], *, functions: bool = True) -> Iterator[Any]:
    """Yield some values and all that they hold, but what copies share; `functions`: what functions enclose too."""
    waiting, seen = list(values), set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or memo.get(id(value), seen) is value:
            continue
        seen.add(id(value))
        yield value
        if functions or not isinstance(value, (types.FunctionType, _CACHED)):
            waiting += _within(value)


def elements(container: Any) -> list[Any]:
    """Return what a list, tuple, set or deque holds, of a subclass too that refuses its length, as e3nn's `Irrep` does."""
    kind: Any = next(kind for kind in _CONTAINERS if isinstance(container, kind))
    return list(kind.__iter__(container))


def _within(value: Any) -> list[Any]:
    """The objects that a value consists of, beside code."""
    if isinstance(value, _LEAVES):
        return []
    if isinstance(value, types.FunctionType):
        held = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *vars(value).values()]
        for cell in value.__closure__ or ():
            try:
                held.append(cell.cell_contents)
            except ValueError:  # not assigned yet
                continue
        return held
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, _CACHED):
        return [value.__wrapped__]
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, _CONTAINERS):
        return elements(value)
    if hasattr(value, "__deepcopy__") and not isinstance(value, nn.Module):
        return []
    kinds = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    slots = {name for names in kinds for name in ([names] if isinstance(names, str) else names)}
    held = [getattr(value, name) for name in slots - {"__dict__"} if hasattr(value, name)]
    return [*held, *getattr(value, "__dict__", {}).values()]
