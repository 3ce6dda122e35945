"""Functions that enclose a module: `self.mlp = lambda x: self.down(self.up(x))`.

`copy.deepcopy` leaves functions as they are. A copied module would call the parameters of the one that it was copied from.
"""

from __future__ import annotations

import copy
import functools
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
        value: What is copied.
        memo: Of `copy.deepcopy`: copies by the identity of what they are of; what is shared is a copy of itself.

    Raises:
        ScenarioError: Something in the copy would call a module or tensor that it was copied from.
    """
    inside = {id(one): one for one in _walk([value], memo, functions=False)}
    originals = {key for key, one in inside.items() if isinstance(one, nn.Module | Tensor)}

    def encloses(one: Any) -> bool:
        return any(id(part) in originals for part in _walk([one], memo))

    _check_classes({type(one) for one in inside.values()}, encloses)
    called = [one for one in _walk([value], memo) if isinstance(one, types.FunctionType) and encloses(one)]
    caches = [one for one in _walk([value], memo) if isinstance(one, _CACHED) and encloses(one)]
    if not called and not caches:
        return copy.deepcopy(value, memo)
    made = {id(one): _twin(one) for one in called}
    memo.update(made)
    for cached in caches:
        if id(cached.__wrapped__) in made:
            memo[id(cached)] = functools.lru_cache(**cached.cache_parameters())(made[id(cached.__wrapped__)])
    found = copy.deepcopy(value, memo)
    for function in called:
        _fill(function, made[id(function)], lambda one: copy.deepcopy(one, memo) if encloses(one) else one)
    copies = [memo[key] for key, one in inside.items() if isinstance(one, nn.Module) and key in memo]
    held = [(part, *pair) for part in copies for pair in vars(part).items() if pair[0] not in _REGISTRIES]
    for part, name, one in held:
        if isinstance(one, types.MethodType) and id(one.__func__) in made:
            vars(part)[name] = types.MethodType(made[id(one.__func__)], one.__self__)
    for part, name, _ in held:
        if encloses(vars(part)[name]):
            raise ScenarioError(f"'{name}' of {type(part).__name__} would call the layers of the original")
    return found


def _check_classes(classes: Iterable[type], encloses: Callable[[Any], bool]) -> None:
    """Check that no class was made by a function whose modules its methods call: classes are not copied."""
    bases = {base for one in classes for base in one.__mro__}
    for kind in (base for base in bases if base.__module__.partition(".")[0] not in _OTHERS):
        for name, method in list(vars(kind).items()):
            if isinstance(method, types.FunctionType) and method.__closure__ and encloses(method):
                raise ScenarioError(
                    f"{kind.__name__}.{name} encloses layers of the model, which a copy would not call"
                )


def _twin(function: types.FunctionType) -> types.FunctionType:
    """A function of the same code, with empty cells."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)


def _fill(function: types.FunctionType, twin: types.FunctionType, copied: Callable[[Any], Any]) -> None:
    """Give a twin what a function has beside code."""
    for cell, given in zip(twin.__closure__ or (), function.__closure__ or (), strict=True):
        try:
            cell.cell_contents = copied(given.cell_contents)
        except ValueError:  # not assigned yet
            continue
    defaults, named = function.__defaults__, function.__kwdefaults__
    twin.__defaults__ = None if defaults is None else tuple(map(copied, defaults))
    twin.__kwdefaults__ = None if named is None else {key: copied(one) for key, one in named.items()}
    twin.__dict__.update({key: copied(one) for key, one in vars(function).items()})
    twin.__qualname__, twin.__doc__ = function.__qualname__, function.__doc__


def _walk(values: Iterable[Any], memo: dict[int, Any], *, functions: bool = True) -> Iterator[Any]:
    """Yield some values and all that they hold, but what copies share; `functions`: what functions enclose too."""
    left, seen = list(values), set[int]()
    while left:
        one = left.pop()
        if id(one) in seen or memo.get(id(one), seen) is one:
            continue
        seen.add(id(one))
        yield one
        if functions or not isinstance(one, (types.FunctionType, _CACHED)):
            left += _within(one)


def _within(value: Any) -> list[Any]:
    """The objects that a value consists of, beside code."""
    if isinstance(value, _LEAVES):
        return []
    if isinstance(value, types.FunctionType):
        found = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *vars(value).values()]
        for cell in value.__closure__ or ():
            try:
                found.append(cell.cell_contents)
            except ValueError:  # not assigned yet
                continue
        return found
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, _CACHED):
        return [value.__wrapped__]
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, _CONTAINERS):
        return list(value)
    if hasattr(value, "__deepcopy__") and not isinstance(value, nn.Module):
        return []
    kinds = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    slots = {name for names in kinds for name in ([names] if isinstance(names, str) else names)}
    found = [getattr(value, name) for name in slots - {"__dict__"} if hasattr(value, name)]
    return [*found, *getattr(value, "__dict__", {}).values()]
